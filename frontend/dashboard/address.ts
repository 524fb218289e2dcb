/** The page's address: it names the projects that are shown, so that a link opens them, and "back" goes back. */

const DEFAULT_PROJECT = "demo";
const PROJECT_ID = /^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$/;

export const isProjectId = (text: string): boolean => PROJECT_ID.test(text);

/** The projects that a query names, each once. One that is no id is kept: the page then says so. */
export function readProjects(search: string): string[] {
  const named = new URLSearchParams(search).getAll("project").map((name) => name.trim());
  const projects = [...new Set(named.filter((name) => name !== ""))];
  return projects.length ? projects : [DEFAULT_PROJECT];
}

/** The query that names them. */
export function writeProjects(projects: readonly string[]): string {
  return `?${new URLSearchParams(projects.map((project) => ["project", project]))}`;
}

/** "(5) a, b · Progress Gateway": how many jobs run is what one wants to know of a tab in the background. */
export function title(projects: readonly string[], running: number): string {
  return `${running ? `(${running}) ` : ""}${projects.join(", ")} · Progress Gateway`;
}

/** The address of this window, and what becomes of it. */
export class Address {
  #projects = readProjects(location.search);
  #onChange: (projects: readonly string[]) => void;

  constructor(onChange: (projects: readonly string[]) => void) {
    this.#onChange = onChange;
    addEventListener("popstate", () => this.#read());
  }

  /** In the order in which they are shown. */
  get projects(): readonly string[] {
    return this.#projects;
  }

  /** Whether it was not there yet. */
  add(project: string): boolean {
    if (this.#projects.includes(project)) return false;
    this.#go([...this.#projects, project]);
    return true;
  }

  remove(project: string): void {
    this.#go(this.#projects.filter((other) => other !== project));
  }

  #go(projects: readonly string[]): void {
    history.pushState(null, "", writeProjects(projects));
    this.#read();
  }

  #read(): void {
    this.#projects = readProjects(location.search);
    this.#onChange(this.#projects);
  }
}
