// One headless Chromium for many tests, driven by JSON lines on stdin and stdout. A profile has cookies of its own, as a
// fresh installation has; a page runs page.mjs. What pages log goes to stderr, each line under the page's number.
//
// commands   {"page":N,"open":URL,"profile":P,"options":{...}}   {"page":N,"do":...} (driver.mjs lists both)
//            {"page":N,"do":"reload"}   {"close":P}
// events     {"page":N,"event":...} (driver.mjs lists those), and loaded, for each time that the page is there

import { createInterface } from "node:readline";

import { chromium } from "playwright-core";

// A fresh user data folder comes from launch() itself. Nothing here needs the network beyond the test's own addresses.
const browser = await chromium.launch({
    executablePath: process.argv[2],
    args: [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ],
});
browser.on("disconnected", () => process.exit(1));
process.stderr.write(`Chromium ${browser.version()}\n`);

// Not for "load": a script that callback-polling waits for may delay that.
const ready = { waitUntil: "domcontentloaded" };
const profiles = new Map();
const pages = new Map();

createInterface({ input: process.stdin })
    .on("line", (line) => handle(JSON.parse(line)))
    .on("close", () => browser.close());

function handle(command) {
    if (command.close !== undefined) {
        const profile = profiles.get(command.close);
        profiles.delete(command.close);
        profile?.then((context) => context.close()).catch((error) => process.stderr.write(`${error}\n`));
        return;
    }
    // One after another for each page, whatever the other pages do.
    const before = pages.get(command.page) ?? Promise.resolve();
    const done = before.then((page) => obey(page, command));
    pages.set(command.page, done.catch((error) => {
        tell(command.page, { event: "error", text: `${JSON.stringify(command)}: ${error}` });
        return before;
    }));
}

async function obey(page, command) {
    if (command.open !== undefined) return open(command);
    if (command.do === "reload") {
        await page.reload(ready);
        tell(command.page, { event: "loaded" });
    } else {
        await page.evaluate((command) => window.obey(command), command);
    }
    return page;
}

async function open({ page: number, open: address, profile, options }) {
    if (!profiles.has(profile)) profiles.set(profile, browser.newContext());
    const context = await profiles.get(profile);
    const page = await context.newPage();
    page.on("console", (message) => log(number, `${message.type()}: ${message.text()}`));
    page.on("pageerror", (error) => tell(number, { event: "error", text: `uncaught ${error}` }));
    page.on("crash", () => tell(number, { event: "error", text: "the page crashed" }));
    await page.exposeFunction("tell", (event) => tell(number, event));
    const url = new URL(address);
    url.search = new URLSearchParams(options);
    await page.goto(url.href, ready);
    tell(number, { event: "loaded" });
    return page;
}

function tell(number, event) {
    process.stdout.write(`${JSON.stringify({ page: number, ...event })}\n`);
}

function log(number, text) {
    process.stderr.write(`page ${number}: ${text}\n`);
}
