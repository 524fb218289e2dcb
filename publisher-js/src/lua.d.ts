/** A Lua script of the Python package, whose bytes the build embeds: see scripts/lua.mjs. */
declare module "*.lua" {
  const script: string;
  export default script;
}
