"""The page that shows ``/openapi.json``: one file, which fetches nothing from elsewhere. It knows no endpoint."""

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Enginebay: HTTP</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color-scheme: light dark; }
  summary { cursor: pointer; padding: .3rem 0; }
  code, pre { font: 14px/1.4 ui-monospace, monospace; }
  pre { overflow: auto; padding: .8rem; border: 1px solid #8886; border-radius: 4px; }
  b { display: inline-block; width: 4rem; }
</style>
<h1>HTTP</h1>
<p>From <a href="openapi.json">openapi.json</a>.</p>
<main>This page needs JavaScript to show it.</main>
<script>
const add = (parent, tag, text) => {
  const e = document.createElement(tag);
  e.textContent = text ?? "";
  parent.append(e);
  return e;
};
fetch("openapi.json").then(answer => answer.json()).then(api => {
  const main = document.querySelector("main");
  main.textContent = "";
  const follow = schema => schema?.$ref ? api.components.schemas[schema.$ref.split("/").pop()] : schema;
  const show = (box, title, schema) => {
    if (!schema) return;
    add(box, "p", title);
    add(box, "pre", JSON.stringify(follow(schema), null, 2));
  };
  for (const [path, methods] of Object.entries(api.paths))
    for (const [method, about] of Object.entries(methods)) {
      const box = add(main, "details"), line = add(box, "summary");
      add(line, "b", method.toUpperCase());
      add(line, "code", path);
      add(line, "span", " " + (about.description ?? ""));
      show(box, "Body", about.requestBody?.content?.["application/json"]?.schema);
      show(box, "Answer", about.responses?.["200"]?.content?.["application/json"]?.schema);
    }
  const all = add(add(main, "details"), "summary", "Types").parentElement;
  for (const [name, schema] of Object.entries(api.components.schemas)) show(all, name, schema);
});
</script>
"""
