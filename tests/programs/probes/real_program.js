// Timers in order, a worker thread, a child, a file, the pool of threads.
const { Worker, isMainThread, parentPort } = require("worker_threads");
const { execFile } = require("child_process");
const { createHash, pbkdf2 } = require("crypto");
const fs = require("fs");
if (!isMainThread) {
  parentPort.on("message", (n) => { parentPort.postMessage(n * n); if (n === 3) process.exit(); });
} else {
  (async () => {
    const timed = [];
    await Promise.all([30, 10, 20].map((n) => new Promise((done) => setTimeout(() => { timed.push(n); done(); }, n))));
    console.log(timed);
    const worker = new Worker(__filename), squares = [];
    worker.on("message", (n) => squares.push(n));
    [1, 2, 3].forEach((n) => worker.postMessage(n));
    await new Promise((done) => worker.on("exit", done));
    console.log(squares);
    console.log(await new Promise((done) => execFile("echo", ["child"], (_, out) => done(out))));
    await fs.promises.writeFile("file", "text");
    console.log(await fs.promises.readFile("file", "utf8"), createHash("sha256").update("x").digest("hex"));
    const keys = [1, 2, 3, 4].map((n) => new Promise((done) => pbkdf2("a", "b", n * 100, 8, "sha1", (_, key) => done(key.toString("hex")))));
    console.log(await Promise.all(keys));
  })();
}
