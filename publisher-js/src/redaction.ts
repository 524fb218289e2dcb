/** Text for people without its secrets. The patterns are those of publisher/redaction.py. */

// To hide too much does little harm. Every repetition that can fail is bounded: a long text must not take quadratic time.
const SECRETS: readonly (readonly [RegExp, string])[] = [
  [/(?<=:\/\/)([^\s/?#@:]{0,256}):\S{0,1024}@/g, "$1:***@"], // to the last @: passwords may hold / and @
  [/(?<=:\/\/)[^\s/?#@:]{1,1024}@/g, "***@"], // a token as the user
  [/(password=)[^&\s]*/gi, "$1***"],
  [
    /(?<![\w-])([\w-]*?(?:token|secret|passw(?:or)?d|pwd|signature|credential|api-?_?key|access-?_?key|auth)["']?\s{0,4}[=:]\s{0,4}["']?)(?!\*)[^\s&;,'"<>)\]}]+/gi,
    "$1***",
  ],
  [/([?&](?:sig|key|code)=)[^\s&'"<>)]+/gi, "$1***"],
  [/(?<![\w-])eyJ[\w-]{8,4096}\.[\w-]{2,4096}(\.[\w-]{0,4096})?/g, "***"], // a JWT: `{"` in base64url
  [/(bearer\s+)\S+/gi, "$1***"],
  [/\b(basic)\s+[\w.~+/=-]{6,}/gi, "$1 ***"],
];

/** `text` with `***` for all that looks like a secret. */
export const redacted = (text: string): string =>
  SECRETS.reduce((hidden, [pattern, replacement]) => hidden.replace(pattern, replacement), text);
