// What a test tells a stock CometD client to do, and what it hears from it: the same in Node and in a page.
//
// The client is the npm package as published: nothing of it is patched, so that what a test sees is what an application
// with the same library would see.
//
// Like most applications in the field, this one subscribes when it is told to and never again: a client that has to
// handshake a second time goes deaf. The events that it tells show it.
//
// commands   {"do":"subscribe","channel":C}   {"do":"unsubscribe","channel":C}   {"do":"publish","channel":C,"data":D}
//            {"do":"publish_binary","channel":C,"hex":H,"meta":M}                {"do":"call","target":T,"data":D,"ms":N}
//            {"do":"batch","commands":[...]}   {"do":"disconnect"}
// events     handshake successful clientId transport reload     connect successful transport (only when it changes)
//            subscribed, unsubscribed, published channel successful     called target successful data
//            message channel data     binary channel hex meta last      timesync lag offset
//            connecting (each time that a connect is about to be sent)
//            disconnected successful     error text

// The options that a client can be given, as texts, with their defaults.
export const defaults = {
    transports: "websocket", // a list: the first that works is taken
    url: undefined, // of the Bayeux endpoint
    user: undefined, // who it is
    token: undefined, // what proves it
    "token-in": "header", // "header": HTTP Basic credentials; "handshake", "message": ext.token there, or everywhere
    extensions: "", // a list of CometD's own: ack, binary, reload, timesync
    "network-delay": "10000", // maxNetworkDelay, in ms: how much later than promised an answer may come
    backoff: "1000", // backoffIncrement, in ms, growing to four times as much
    busy: "0", // how long the application works on each event, in ms, without doing anything else
    "clock-ahead": "0", // how wrong the clock of the client's machine is, in ms
};

// Starts a client, which handshakes at once. `npm` is what its package exports, `tell` takes each event, `verbs` are
// commands that only make sense where this client runs. Returns the client, and what takes the commands.
export function start(npm, options, tell, verbs = {}) {
    setClockAhead(Number(options["clock-ahead"]));
    const cometd = new npm.CometD();
    const transports = list(options.transports);
    for (const type of cometd.getTransportTypes()) {
        if (!transports.includes(type)) cometd.unregisterTransport(type);
    }
    for (const name of list(options.extensions)) {
        cometd.registerExtension(name, new npm[EXTENSIONS[name]]());
    }
    cometd.registerExtension("observer", observer(tell));
    if (options["token-in"] === "message") cometd.registerExtension("token", withToken(options.token));
    cometd.configure({
        url: options.url,
        requestHeaders: options["token-in"] === "header" ? basic(options) : {},
        maxNetworkDelay: Number(options["network-delay"]),
        backoffIncrement: Number(options.backoff),
        maxBackoff: 4 * Number(options.backoff),
        logLevel: options["log-level"] ?? "warn",
    });
    listen(cometd, tell, Number(options.busy));
    cometd.handshake(options["token-in"] === "handshake" ? { ext: { token: options.token } } : {});
    return { cometd, obey: commands(cometd, tell, verbs) };
}

const EXTENSIONS = {
    ack: "AckExtension",
    binary: "BinaryExtension",
    reload: "ReloadExtension",
    timesync: "TimeSyncExtension",
};

function list(text) {
    return text.split(",").filter((name) => name !== "");
}

function basic({ user, token }) {
    return user === undefined ? {} : { Authorization: `Basic ${btoa(`${user}:${token}`)}` };
}

function observer(tell) {
    return {
        outgoing(message) {
            if (message.channel === "/meta/connect") tell("connecting", {});
            return message;
        },
    };
}

// For a client without headers and cookies: it says in each message who it is.
function withToken(token) {
    return { outgoing: (message) => ({ ...message, ext: { ...message.ext, token } }) };
}

function setClockAhead(ms) {
    if (ms === 0) return;
    const Right = Date;
    globalThis.Date = class extends Right {
        constructor(...given) {
            if (given.length === 0) super(Right.now() + ms);
            else super(...given);
        }

        static now() {
            return Right.now() + ms;
        }
    };
}

function listen(cometd, tell, busy) {
    // Up to version 7 it is a method. After a disconnect there is no transport any more.
    let type;
    const transport = () => (type = cometd.getTransport()?.getType?.() ?? cometd.getTransport()?.type ?? type);
    cometd.addListener("/meta/handshake", (reply) => {
        const { clientId, ext } = reply;
        tell("handshake", { ...outcome(reply), clientId, transport: transport(), reload: ext?.reload === true });
    });
    let last;
    cometd.addListener("/meta/connect", (reply) => {
        const now = `${reply.successful} ${transport()}`;
        if (now !== last) tell("connect", { ...outcome(reply), transport: transport() });
        last = now;
        const timesync = cometd.getExtension("timesync");
        if (timesync && reply.successful) {
            tell("timesync", { lag: timesync.getNetworkLag(), offset: timesync.getTimeOffset() });
        }
    });
    // A listener of "/**" hears each message once, however many subscriptions match it.
    cometd.addListener("/**", ({ channel, data, ext }) => {
        if (data === undefined || channel.startsWith("/meta/")) return;
        if (ext?.binary && data.data instanceof ArrayBuffer) {
            tell("binary", { channel, hex: toHex(data.data), meta: data.meta, last: data.last });
        } else {
            tell("message", { channel, data });
        }
        const free = performance.now() + busy;
        while (performance.now() < free);
    });
    cometd.onListenerException = cometd.onExtensionException = cometd.onCallbackException = (exception) => {
        tell("error", { text: String(exception) });
    };
}

function commands(cometd, tell, verbs) {
    const subscriptionByChannel = new Map();
    const all = {
        subscribe({ channel }) {
            const answered = (reply) => tell("subscribed", { channel, ...outcome(reply) });
            subscriptionByChannel.set(channel, cometd.subscribe(channel, () => {}, answered));
        },
        unsubscribe({ channel }) {
            const answered = (reply) => tell("unsubscribed", { channel, ...outcome(reply) });
            cometd.unsubscribe(subscriptionByChannel.get(channel), answered);
        },
        publish({ channel, data }) {
            cometd.publish(channel, data, (reply) => tell("published", { channel, ...outcome(reply) }));
        },
        publish_binary({ channel, hex, meta }) {
            const answered = (reply) => tell("published", { channel, ...outcome(reply) });
            cometd.publishBinary(channel, fromHex(hex), true, meta, answered);
        },
        call({ target, data, ms }) {
            const answered = (reply) => tell("called", { target, ...outcome(reply), data: reply.data });
            cometd.remoteCall(target, data, ms, answered);
        },
        batch({ commands: several }) {
            cometd.batch(() => several.forEach(obey));
        },
        disconnect() {
            cometd.disconnect((reply) => tell("disconnected", outcome(reply)));
        },
        ...verbs,
    };
    function obey(command) {
        try {
            all[command.do](command);
        } catch (exception) {
            tell("error", { text: `${JSON.stringify(command)}: ${exception}` });
        }
    }
    return obey;
}

function outcome(reply) {
    if (reply.successful) return { successful: true };
    const failure = reply.failure;
    const reason = reply.error ?? failure?.reason ?? failure?.exception?.message ?? failure?.httpCode;
    return { successful: false, error: String(reason), reconnect: reply.advice?.reconnect };
}

function toHex(buffer) {
    return Array.from(new Uint8Array(buffer), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function fromHex(hex) {
    return Uint8Array.from(hex.match(/../g) ?? [], (byte) => parseInt(byte, 16));
}
