// One stock CometD client in Node, driven by JSON lines: driver.mjs lists the commands, read from stdin, and the events,
// written to stdout. Whatever the client itself logs goes to stderr; COMETD_LOG=debug makes it tell everything it does.
//
// commands   those of driver.mjs, and {"do":"pause","ms":N}
// events     those of driver.mjs, and paused ms, resumed

import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";

import { defaults, start } from "./driver.mjs";

const usage = `usage: node cometd-client.mjs --url URL [options]

  --version 9|8|7|5|4|3    the major of the cometd package to run (default 9)
  --transports LIST        websocket, long-polling, or both: the first that works (default websocket)
  --user NAME              who it is
  --token TOKEN
  --token-in WHERE         header (HTTP Basic credentials, over both transports), handshake or message (ext.token)
  --extensions LIST        CometD's own extensions to register: ack, binary, timesync
  --network-delay MS       maxNetworkDelay: how much later than promised an answer may come (default 10000)
  --backoff MS             backoffIncrement, growing to four times as much (default 1000)
  --busy MS                how long the application works on each event
  --clock-ahead MS         how wrong this machine's clock is
`;

// The client and its adapter log through console, to stdout: that is where our events go.
console.log = console.info = console.debug = console.warn = console.error;

const options = readOptions();
const { obey } = start(await loadClient(options.version), addressed(options), tell, { pause });
createInterface({ input: process.stdin })
    .on("line", (line) => obey(JSON.parse(line)))
    .on("close", () => process.exit(0));

// `ws` turns credentials in the address into an Authorization header, which is the only header that the adapter lets
// a WebSocket send. XMLHttpRequest has a setting for it.
function addressed(options) {
    const url = new URL(options.url);
    if (options["token-in"] === "header" && options.user !== undefined && options.transports.includes("websocket")) {
        url.username = encodeURIComponent(options.user);
        url.password = encodeURIComponent(options.token);
    }
    return { ...options, url: url.href, "log-level": process.env.COMETD_LOG };
}

// Stops the whole process as a closed laptop lid does: no timer fires, nothing is read, no ping is answered.
function pause({ ms }) {
    tell("paused", { ms });
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
    tell("resumed", {});
}

function tell(event, fields) {
    process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`);
}

// Up to 7 the client and the adapter that fits it are CommonJS, with a file for each extension.
async function loadClient(version) {
    if (Number(version) >= 8) {
        const { adapt } = await import("cometd-nodejs-client");
        adapt();
        return import(version === "9" ? "cometd" : `cometd-${version}`);
    }
    const require = createRequire(import.meta.url);
    require("cometd-nodejs-client-1").adapt();
    const { CometD } = require(`cometd-${version}`);
    const names = ["AckExtension", "BinaryExtension", "TimeSyncExtension"];
    const extensions = names.map((name) => [name, require(`cometd-${version}/${name}.js`)]);
    return { CometD, ...Object.fromEntries(extensions) };
}

function readOptions() {
    try {
        const texts = { version: "9", ...defaults };
        const options = Object.entries(texts).map(([name, value]) => [name, { type: "string", default: value }]);
        const { values } = parseArgs({ options: { help: { type: "boolean" }, ...Object.fromEntries(options) } });
        if (values.help) {
            process.stdout.write(usage);
            process.exit(0);
        }
        if (!values.url) throw new Error("--url is missing");
        if (!["9", "8", "7", "5", "4", "3"].includes(values.version)) throw new Error("--version is a major of cometd");
        if ((values.user === undefined) !== (values.token === undefined)) {
            throw new Error("--user and --token go together");
        }
        return values;
    } catch (error) {
        process.stderr.write(`${error.message}\n\n${usage}`);
        process.exit(2);
    }
}
