// Reads lists of finals, one a line, and writes each in every format, as one line of JSON.

import { createInterface } from "node:readline";

import { hypothesis, toJson, toSrt, toText, toVtt } from "../../../app/speechbridge/server/static/captions.mjs";

for await (const given of createInterface({ input: process.stdin })) {
  const finals = JSON.parse(given).map(hypothesis);
  console.log(JSON.stringify([toText, toSrt, toVtt, toJson].map((write) => write(finals))));
}
