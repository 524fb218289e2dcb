/** The middleware for version 3 of Inngest's SDK. */

import { describe } from "vitest";
import { behaviour } from "./behaviour.js";
import { SDK } from "./sdk-v3.js";
import { stories } from "./stories.js";

describe("as Python's", () => stories(SDK));
describe("beyond", () => behaviour(SDK));
