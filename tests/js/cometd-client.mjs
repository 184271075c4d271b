// One stock CometD client, driven by JSON lines.
//
// Reads one command per line on stdin, writes one event per line on stdout; whatever the client itself logs goes
// to stderr. The client is the npm package as published: nothing of it is patched, so that what a test sees is what a
// browser with the same library would see.
//
// Like most applications in the field, this one subscribes when it is told to and never again: a client that has to
// handshake a second time goes deaf. The event log shows it.
//
// commands   {"do":"subscribe","channel":C}   {"do":"unsubscribe","channel":C}   {"do":"publish","channel":C,"data":D}
//            {"do":"pause","ms":N}             {"do":"disconnect"}
// events     handshake successful clientId     connect successful (only when it changes)
//            subscribed, unsubscribed, published channel successful     message channel data
//            paused ms     resumed     disconnected successful     error text

import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";

const usage = `usage: node cometd-client.mjs --url URL [options]

  --version 9|3            the cometd package to run: 9.0.0 or 3.1.14 (default 9)
  --transport NAME         websocket or long-polling (default websocket)
  --user NAME              sent with --token as HTTP Basic credentials, over both transports
  --token TOKEN
  --ack                    registers CometD's own AckExtension
  --network-delay MS       maxNetworkDelay: how much later than promised an answer may come (default 10000)
  --backoff MS             backoffIncrement, growing to four times as much (default 1000)
`;

// The client and its adapter log through console, to stdout: that is where our events go.
console.log = console.info = console.debug = console.warn = console.error;

const options = readOptions();
const { CometD, AckExtension } = await loadClient(options.version);
const cometd = new CometD();
const subscriptionByChannel = new Map();
let connected;

start();

function start() {
    for (const type of cometd.getTransportTypes()) {
        if (type !== options.transport) cometd.unregisterTransport(type);
    }
    if (options.ack) cometd.registerExtension("ack", new AckExtension());
    cometd.configure({
        ...identity(),
        maxNetworkDelay: Number(options["network-delay"]),
        backoffIncrement: Number(options.backoff),
        maxBackoff: 4 * Number(options.backoff),
        logLevel: process.env.COMETD_LOG ?? "warn",
    });
    listen();
    cometd.handshake();
    createInterface({ input: process.stdin })
        .on("line", (line) => {
            try {
                obey(JSON.parse(line));
            } catch (exception) {
                tell("error", { text: String(exception) });
            }
        })
        .on("close", () => process.exit(0));
}

// `ws` turns credentials in the address into an Authorization header, which is the only header that the adapter lets
// a WebSocket send. XMLHttpRequest has a setting for it.
function identity() {
    const url = new URL(options.url);
    if (options.user === undefined) return { url: url.href };
    if (options.transport === "websocket") {
        url.username = encodeURIComponent(options.user);
        url.password = encodeURIComponent(options.token);
        return { url: url.href };
    }
    const basic = Buffer.from(`${options.user}:${options.token}`).toString("base64");
    return { url: url.href, requestHeaders: { Authorization: `Basic ${basic}` } };
}

function listen() {
    cometd.addListener("/meta/handshake", (reply) => {
        tell("handshake", { ...outcome(reply), clientId: reply.clientId });
    });
    cometd.addListener("/meta/connect", (reply) => {
        if (reply.successful !== connected) tell("connect", outcome(reply));
        connected = reply.successful;
    });
    // A listener of "/**" hears each message once, however many subscriptions match it.
    cometd.addListener("/**", (message) => {
        if (message.data !== undefined && !message.channel.startsWith("/meta/")) {
            tell("message", { channel: message.channel, data: message.data });
        }
    });
    cometd.onListenerException = cometd.onExtensionException = cometd.onCallbackException = (exception) => {
        tell("error", { text: String(exception) });
    };
}

function obey(command) {
    const { do: verb, channel } = command;
    switch (verb) {
        case "subscribe": {
            const answered = (reply) => tell("subscribed", { channel, ...outcome(reply) });
            subscriptionByChannel.set(channel, cometd.subscribe(channel, () => {}, answered));
            break;
        }
        case "unsubscribe": {
            const answered = (reply) => tell("unsubscribed", { channel, ...outcome(reply) });
            cometd.unsubscribe(subscriptionByChannel.get(channel), answered);
            break;
        }
        case "publish":
            cometd.publish(channel, command.data, (reply) => tell("published", { channel, ...outcome(reply) }));
            break;
        case "disconnect":
            cometd.disconnect((reply) => tell("disconnected", outcome(reply)));
            break;
        case "pause":
            pause(command.ms);
            break;
        default:
            tell("error", { text: `unknown command ${verb}` });
    }
}

// Stops the whole process as a closed laptop lid does: no timer fires, nothing is read, no ping is answered.
function pause(ms) {
    tell("paused", { ms });
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
    tell("resumed", {});
}

function outcome(reply) {
    if (reply.successful) return { successful: true };
    const failure = reply.failure;
    const reason = reply.error ?? failure?.reason ?? failure?.exception?.message ?? failure?.httpCode;
    return { successful: false, error: String(reason), reconnect: reply.advice?.reconnect };
}

function tell(event, fields) {
    process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`);
}

async function loadClient(version) {
    if (version === "9") {
        const { adapt } = await import("cometd-nodejs-client");
        adapt();
        return import("cometd");
    }
    const require = createRequire(import.meta.url);
    require("cometd-nodejs-client-1").adapt();
    const { CometD } = require("cometd-3");
    return { CometD, AckExtension: require("cometd-3/AckExtension.js") };
}

function readOptions() {
    try {
        const { values } = parseArgs({
            options: {
                help: { type: "boolean" },
                version: { type: "string", default: "9" },
                transport: { type: "string", default: "websocket" },
                url: { type: "string" },
                user: { type: "string" },
                token: { type: "string" },
                ack: { type: "boolean", default: false },
                "network-delay": { type: "string", default: "10000" },
                backoff: { type: "string", default: "1000" },
            },
        });
        if (values.help) {
            process.stdout.write(usage);
            process.exit(0);
        }
        if (!values.url) throw new Error("--url is missing");
        if (!["9", "3"].includes(values.version)) throw new Error("--version is 9 or 3");
        if (!["websocket", "long-polling"].includes(values.transport)) {
            throw new Error("--transport is websocket or long-polling");
        }
        if ((values.user === undefined) !== (values.token === undefined)) {
            throw new Error("--user and --token go together");
        }
        return values;
    } catch (error) {
        process.stderr.write(`${error.message}\n\n${usage}`);
        process.exit(2);
    }
}
