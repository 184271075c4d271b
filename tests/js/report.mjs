// Opens a file in headless Chromium and says, as one JSON object on stdout, what a reader sees of its figures and what the page
// asked the network for.
//
// usage: node report.mjs CHROMIUM FILE

import { pathToFileURL } from "node:url";

import { chromium } from "playwright-core";

const [executablePath, file] = process.argv.slice(2);
const browser = await chromium.launch({
    executablePath,
    args: ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"],
});
const page = await browser.newPage();
const requests = [];
const errors = [];
page.on("request", (request) => requests.push(request.url()));
page.on("pageerror", (error) => errors.push(String(error)));
page.on("console", (message) => errors.push(message.text()));
const url = pathToFileURL(file).href;
await page.goto(url, { waitUntil: "networkidle" });
const figures = await page.$$eval("[data-json]", (elements) =>
    elements.map((element) => ({
        pointer: element.dataset.json,
        unit: element.dataset.unit,
        value: element.dataset.value,
        text: element.innerText.trim(),
        visible: element.checkVisibility() && element.getBoundingClientRect().width > 0,
    })),
);
const charts = await page.$$eval("svg path, svg polyline", (lines) => lines.length);
await browser.close();
process.stdout.write(JSON.stringify({ others: requests.filter((asked) => asked !== url), errors, figures, charts }));
