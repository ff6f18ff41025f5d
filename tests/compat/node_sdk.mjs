// Runs `job.streams` streams at once with Rev.ai's unmodified Node SDK. Takes the job as JSON on stdin. Writes to stdout, as
// JSON, what the callbacks of each received: { connected: [], responses: [], closes: [[code, reason]], errors: [] }.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const require = createRequire(import.meta.url);
const { RevAiStreamingClient, AudioConfig } = require("revai-node-sdk");

const job = JSON.parse(readFileSync(0, "utf8"));
const deploymentConfig = { baseUrl: job.url, baseWebsocketUrl: job.url };

function stream() {
  const seen = { connected: [], responses: [], closes: [], errors: [] };
  const audio = new AudioConfig(job.media ?? "audio/x-raw", "interleaved", 16000, "S16LE", 1);
  const client = new RevAiStreamingClient({ token: "token", deploymentConfig }, audio);
  const closed = new Promise((resolve) => {
    client.on("close", (code, reason) => {
      seen.closes.push([code, reason]);
      setTimeout(() => resolve(seen), 50); // long enough to see a second close, if there were one
    });
    for (const failure of ["httpResponse", "connectFailed", "error"]) {
      client.on(failure, (error) => {
        seen.errors.push(`${failure}: ${error}`);
        resolve(seen);
      });
    }
  });
  client.on("connect", (message) => seen.connected.push(message));
  const duplex = client.start(job.options);
  duplex.on("data", (response) => seen.responses.push(response));
  for (const [size, count] of job.chunks) {
    for (let n = 0; n < count; n++) duplex.write(Buffer.alloc(size));
  }
  if (job.end ?? true) client.end();
  return closed;
}

const seen = await Promise.all(Array.from({ length: job.streams ?? 1 }, stream));
process.stdout.write(JSON.stringify(seen), () => process.exit(0));
