// Everything, in the order in which it reacts: the search first, since what is drawn asks for its matches.

import { followAddress, readAddress } from "./address.js";
import { showBiggest } from "./biggest.js";
import { showCurve } from "./curve.js";
import { showDetails } from "./details.js";
import { followDownloads } from "./download.js";
import { showFooter } from "./footer.js";
import { showHeader } from "./header.js";
import { showIcicle } from "./icicle.js";
import { followKeys } from "./keyboard.js";
import { showLegend } from "./legend.js";
import { showMatrix } from "./matrix.js";
import { showRoofline } from "./roofline.js";
import { followQuery } from "./search.js";
import { drawAll } from "./state.js";
import { showTable } from "./table.js";
import { followTheme } from "./theme.js";

document.body.classList.remove("static");
readAddress();
followQuery();
showHeader();
showIcicle();
showLegend();
showDetails();
showCurve();
showBiggest();
showRoofline();
showTable();
showMatrix();
showFooter();
followDownloads();
followTheme();
followKeys();
drawAll();
followAddress();
