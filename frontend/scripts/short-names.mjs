/**
 * Short names, in the published files, for members that modules of this package share and that no page sees. Bundlers do
 * so for `#private` members by themselves, but cannot know which others are internal.
 */

import { transform } from "esbuild";

/** Each is a member of an internal class or interface, and of nothing else: no message, option, snapshot or DOM object. */
export const INTERNAL = [
  ...["apply", "byId", "changed", "counts", "cursor", "doubt", "doubtful", "drop", "end", "entry", "event", "hasRoom"],
  ...["hasToken", "heardAt", "isForbidden", "isOpen", "isShown", "job", "leave", "linger", "link", "listeners"],
  ...[
    "markSilent",
    "merge",
    "newest",
    "onAuthorised",
    "onEnd",
    "onOffline",
    "onOpen",
    "onPong",
    "onSubscribed",
    "onText",
  ],
  ...["onTick", "own", "part", "parts", "prepare", "refusals", "refuse", "resetSilence", "rest", "snapshot", "state"],
  ...["statusOf", "workingSince"],
];

const LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
/** Options of esbuild. */
export const mangling = {
  mangleProps: new RegExp(`^(${INTERNAL.join("|")})$`),
  mangleCache: Object.fromEntries(INTERNAL.map((name, i) => [name, LETTERS[i]])),
};

/** A plugin of the build. */
export const shortNames = {
  name: "short-names",
  async renderChunk(code, { fileName }) {
    if (!/\.c?js$/.test(fileName)) return null;
    const { code: short, map } = await transform(code, {
      ...mangling,
      sourcemap: true,
      sourcefile: fileName,
    });
    return { code: short, map };
  },
};
