// One stock CometD client in a page: its options are those of driver.mjs, in the query of the page's address, so that a
// reload finds them again. browser.mjs calls `obey` and provides `tell`.

import * as npm from "./node_modules/cometd/cometd.js";
import { defaults, start } from "./driver.mjs";

const options = { ...defaults, ...Object.fromEntries(new URLSearchParams(window.location.search)) };
const tell = (event, fields) => void window.tell({ event, ...fields });

const { cometd, obey } = start(npm, options, tell);
window.obey = obey;
// With the reload extension, as CometD's documentation tells applications to.
if (cometd.reload) window.addEventListener("beforeunload", () => cometd.reload());
