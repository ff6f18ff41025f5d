// Writes what each line of the input, a list of finals, is in every format: a line of JSON for each.

import { createInterface } from "node:readline";

import { hypothesis, toJson, toSrt, toText, toVtt } from "../../../app/speechbridge/server/static/captions.mjs";

for await (const given of createInterface({ input: process.stdin })) {
  const finals = JSON.parse(given).map(hypothesis);
  console.log(JSON.stringify([toText, toSrt, toVtt, toJson].map((write) => write(finals))));
}
