// Reads Kubernetes objects as JSON, {name: object}, from stdin, and says what their kinds do not know or allow.
// The schemas of custom resources let unknown fields pass, as an API server does; the types that are made from them do not.
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";

const MODULES = {
  HTTPRoute: "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1/HTTPRoute",
  PrometheusRule: "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PrometheusRule",
  ScaledObject: "@kubernetes-models/keda/keda.sh/v1alpha1/ScaledObject",
  ServiceMonitor: "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/ServiceMonitor",
};

const bySchema = async (name, object) => {
  const { [object.kind]: Model } = await import(MODULES[object.kind]);
  try {
    new Model(object).validate();
    return [];
  } catch (error) {
    return [`${name}: ${error.message.replaceAll("\n", " ")}`];
  }
};

// As somebody would write the object in TypeScript: a file each, which is never written.
const program = ({ apiVersion: _, kind, ...object }) =>
  `import { ${kind} } from "${MODULES[kind]}";\nnew ${kind}(${JSON.stringify(object, null, 1)});\n`;

const byTypes = (objects) => {
  const pathOf = (name) => fileURLToPath(new URL(`${name}.ts`, import.meta.url));
  const files = new Map(Object.entries(objects).map(([name, object]) => [pathOf(name), program(object)]));
  const options = {
    noEmit: true,
    strict: true,
    skipLibCheck: true,
    types: [],
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
  };
  const host = ts.createCompilerHost(options);
  const { getSourceFile, fileExists } = host;
  host.fileExists = (path) => files.has(path) || fileExists(path);
  host.getSourceFile = (path, ...rest) =>
    files.has(path) ? ts.createSourceFile(path, files.get(path), options.target) : getSourceFile(path, ...rest);
  return ts
    .getPreEmitDiagnostics(ts.createProgram([...files.keys()], options, host))
    .map(({ file, messageText }) => [file?.fileName ?? "", ts.flattenDiagnosticMessageText(messageText, " ")])
    .map(([path, message]) => `${basename(path, ".ts")}: ${message}`);
};

const objects = JSON.parse(readFileSync(0, "utf8"));
const complaints = byTypes(objects);
for (const [name, object] of Object.entries(objects)) {
  complaints.push(...(await bySchema(name, object)));
}
console.log(complaints.join("\n"));
process.exitCode = complaints.length ? 1 : 0;
