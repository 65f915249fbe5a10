// The console's only script. Pages work without it but for the live log and figures, lint while one types, and uploads.
"use strict";

const csrf = document.querySelector('meta[name="csrf"]')?.content ?? "";

// Times in the reader's zone.
function times(root) {
  for (const t of root.querySelectorAll("time[datetime]")) {
    const at = new Date(t.dateTime);
    if (!Number.isNaN(at.getTime())) t.textContent = at.toLocaleString(document.documentElement.lang, { hour12: false });
  }
}
times(document);

// Questions before what cannot be taken back.
for (const form of document.querySelectorAll("form[data-ask]")) {
  form.addEventListener("submit", (e) => { if (!confirm(form.dataset.ask)) e.preventDefault(); });
}

// Parts of a page that the server draws anew.
for (const live of document.querySelectorAll("[data-live]")) {
  const every = Number(live.dataset.every ?? 2000);
  const again = async () => {
    if (!document.hidden) {
      try {
        const answer = await fetch(live.dataset.live, { headers: { "x-fragment": "1" } });
        if (answer.ok && !live.contains(document.activeElement)) {
          const ticked = new Set([...live.querySelectorAll("input:checked")].map((b) => b.value));
          live.innerHTML = await answer.text();
          for (const box of live.querySelectorAll("input[type=checkbox]")) box.checked = ticked.has(box.value);
          times(live);
        } else if (answer.status === 401) return location.reload();
      } catch { /* the console is away: the next try may find it */ }
    }
    setTimeout(again, every);
  };
  setTimeout(again, every);
}

// The log as it is written.
for (const log of document.querySelectorAll("[data-log]")) {
  const stream = new EventSource(log.dataset.log);
  const most = 2000;
  const show = (e) => {
    const follow = log.scrollTop + log.clientHeight >= log.scrollHeight - 30;
    for (const line of JSON.parse(e.data)) log.append(line + "\n");
    while (log.childNodes.length > most) log.firstChild.remove();
    if (follow) log.scrollTop = log.scrollHeight;
  };
  stream.addEventListener("lines", show);
  stream.addEventListener("again", () => log.replaceChildren());
}

// The editor: problems are marked where they stand, on a layer behind the text.
for (const editor of document.querySelectorAll(".editor")) {
  const text = editor.querySelector("textarea");
  const layer = editor.querySelector("pre");
  const list = document.getElementById("problems");
  const graph = document.getElementById("graph");
  const form = text.form;
  let asked = 0;
  const scroll = () => { layer.scrollTop = text.scrollTop; layer.scrollLeft = text.scrollLeft; };
  // From a line and a column in characters, both from 1, to an index of the string.
  const index = (lines, line, column) => {
    let at = 0;
    for (let i = 0; i < line - 1 && i < lines.length; i++) at += lines[i].length + 1;
    return at + [...(lines[line - 1] ?? "")].slice(0, column - 1).join("").length;
  };
  // What is marked in which text.
  let marked = { value: "", ranges: [] };
  const draw = (ranges) => {
    marked = { value: text.value, ranges };
    const nodes = [];
    let at = 0;
    for (const { from, to, p } of ranges) {
      if (from < at) continue;
      nodes.push(text.value.slice(at, from));
      const m = document.createElement("mark");
      m.className = p.severity;
      m.dataset.id = p.id;
      const part = text.value.slice(from, to);
      // What is empty, or ends a line, gets a place to be marked at.
      m.textContent = part === "" ? " " : part.replace(/^\n/, " \n");
      nodes.push(m);
      at = to;
    }
    nodes.push(text.value.slice(at) + "\n");
    layer.replaceChildren(...nodes);
    scroll();
  };
  // Until the next answer the marks stay with their words: those before a change where they are, those behind it moved,
  // those that the change touches gone.
  const follow = () => {
    const [old, now] = [marked.value, text.value];
    if (old === now) return;
    const shorter = Math.min(old.length, now.length);
    let head = 0;
    while (head < shorter && old[head] === now[head]) head++;
    let tail = 0;
    while (tail < shorter - head && old[old.length - 1 - tail] === now[now.length - 1 - tail]) tail++;
    const by = now.length - old.length;
    draw(marked.ranges.flatMap((r) => {
      if (r.to <= head) return [r];
      return r.from >= old.length - tail ? [{ ...r, from: r.from + by, to: r.to + by }] : [];
    }));
  };
  const mark = (problems) => {
    const lines = text.value.split("\n");
    draw(problems.map((p) => {
      const from = index(lines, p.line, p.column);
      return { from, to: Math.max(index(lines, p.end_line, p.end_column), from + 1), p };
    }).sort((a, b) => a.from - b.from));
    list.replaceChildren(...problems.map((p) => {
      const item = document.createElement("li");
      item.className = p.severity;
      const go = document.createElement("button");
      go.type = "button";
      go.textContent = `${p.line}:${p.column}`;
      go.addEventListener("click", () => {
        const from = index(lines, p.line, p.column);
        text.focus();
        text.setSelectionRange(from, Math.max(index(lines, p.end_line, p.end_column), from));
        text.scrollTop = (p.line - 5) * 20;
      });
      const more = [p.suggestion ? `→ ${p.suggestion}` : "", p.hint ?? ""].filter(Boolean).join(" · ");
      item.append(go, ` ${p.severity}[${p.id}] ${p.message}${more ? " — " + more : ""}`);
      return item;
    }));
    editor.dataset.linted = String(asked);
  };
  const lint = async () => {
    const mine = ++asked;
    const body = new URLSearchParams(new FormData(form));
    try {
      const answer = await fetch(editor.dataset.lint, { method: "POST", body, headers: { "x-csrf-token": csrf } });
      if (!answer.ok || mine !== asked) return;
      const found = await answer.json();
      mark(found.problems);
      if (graph) graph.innerHTML = found.graph;
    } catch { /* the console is away: the next key asks again */ }
  };
  let wait;
  const soon = () => {
    follow();
    // An answer under way is about a text that is no longer there.
    asked++;
    clearTimeout(wait);
    wait = setTimeout(lint, 250);
  };
  form.addEventListener("input", soon);
  text.addEventListener("scroll", scroll);
  const suggest = completions(text, document.getElementById("completions"));
  // Tab indents, Escape and then Tab leaves the editor.
  let leave = false;
  text.addEventListener("keydown", (e) => {
    if (suggest.key(e)) return;
    if (e.key === "Escape") leave = true;
    else if (e.key === "Tab" && !leave && !e.shiftKey) {
      e.preventDefault();
      document.execCommand("insertText", false, "  ");
    } else if (e.key !== "Shift") leave = false;
  });
  const file = document.getElementById("upload");
  file?.addEventListener("change", async () => {
    const chosen = file.files[0];
    if (!chosen) return;
    if (chosen.size > 1 << 20) return alert(file.dataset.large);
    text.value = await chosen.text();
    soon();
  });
  lint();
}

// A list of what may stand at the caret: asked for by control and space, and kept while one writes.
function completions(text, list) {
  // An answer that comes after the list was hidden, or asked for again, shows nothing.
  let turn = 0;
  const hide = () => { turn++; list.hidden = true; list.replaceChildren(); text.removeAttribute("aria-activedescendant"); };
  const choose = (item) => {
    const at = text.selectionStart;
    hide();
    text.setSelectionRange(at - Number(item.dataset.word), at);
    document.execCommand("insertText", false, item.dataset.text);
  };
  const select = (item) => {
    for (const other of list.children) other.setAttribute("aria-selected", String(other === item));
    item.scrollIntoView({ block: "nearest" });
    text.setAttribute("aria-activedescendant", item.id);
  };
  const show = async () => {
    const mine = ++turn;
    const at = text.selectionStart;
    const before = text.value.slice(0, at);
    try {
      const answer = await fetch("/complete", { method: "POST", body: new URLSearchParams({ before, after: text.value.slice(at), id: text.form.elements.id?.value ?? "" }), headers: { "x-csrf-token": csrf } });
      if (mine !== turn) return;
      if (!answer.ok || text.selectionStart !== at) return hide();
      const { suggestions } = await answer.json();
      if (mine !== turn) return;
      if (!suggestions.length) return hide();
      list.replaceChildren(...suggestions.map((s, i) => {
        const item = document.createElement("li");
        Object.assign(item, { id: `completion-${i}`, textContent: s.about ? `${s.label} — ${s.about}` : s.label });
        item.setAttribute("role", "option");
        item.dataset.text = s.text;
        item.dataset.word = String(s.word.length);
        item.addEventListener("mousedown", (e) => { e.preventDefault(); choose(item); });
        return item;
      }));
      const lines = before.split("\n");
      const column = lines[lines.length - 1].length - suggestions[0].word.length;
      list.style.top = `${lines.length * 20 + 12 - text.scrollTop}px`;
      list.style.left = `${Math.min(column * 7.8 + 12 - text.scrollLeft, text.clientWidth * 0.5)}px`;
      list.hidden = false;
      select(list.children[0]);
    } catch { hide(); }
  };
  text.addEventListener("blur", hide);
  text.addEventListener("input", () => { if (!list.hidden) show(); });
  // Whether the key was the list's.
  const key = (e) => {
    if (e.key === " " && e.ctrlKey) { e.preventDefault(); show(); return true; }
    if (list.hidden) return false;
    const all = [...list.children];
    const now = all.findIndex((i) => i.getAttribute("aria-selected") === "true");
    if (e.key === "ArrowDown" || e.key === "ArrowUp") select(all[(now + (e.key === "ArrowDown" ? 1 : all.length - 1)) % all.length]);
    else if (e.key === "Enter" || e.key === "Tab") choose(all[now]);
    else if (e.key === "Escape") hide();
    else return false;
    e.preventDefault();
    return true;
  };
  return { key };
}

// A box that ticks all others.
for (const all of document.querySelectorAll("[data-all]")) {
  all.addEventListener("change", () => {
    for (const box of document.querySelectorAll(`input[name="${all.dataset.all}"]`)) box.checked = all.checked;
  });
}

// Rows of a running job.
for (const form of document.querySelectorAll("[data-tap]")) {
  const most = 200;
  const stop = document.getElementById("tap-stop");
  const told = document.getElementById("tap-told");
  const refused = document.getElementById("tap-refused");
  const [head, body] = [document.querySelector("#tap-rows thead"), document.querySelector("#tap-rows tbody")];
  const output = form.elements.output;
  const words = told.dataset;
  let stream, shown, columns;
  const cell = (kind, text) => { const c = document.createElement(kind); c.textContent = text; return c; };
  const row = (kind, texts) => { const r = document.createElement("tr"); r.append(...texts.map((t) => cell(kind, t))); return r; };
  const text = (v) => v === undefined || v === null ? "" : typeof v === "string" ? v : JSON.stringify(v);
  const end = (what) => {
    stream?.close();
    stream = undefined;
    stop.disabled = true;
    if (what !== undefined) told.textContent = what;
  };
  const fields = () => { document.getElementById("tap-fields").textContent = output.selectedOptions[0]?.dataset.fields ?? ""; };
  output.addEventListener("change", fields);
  fields();
  // The condition, marked where it cannot be read. The place is in bytes of UTF-8.
  const refuse = ({ error, range }) => {
    const message = [error.message, error.detail, error.hint].filter(Boolean).join(" — ");
    refused.replaceChildren(message);
    if (range) {
      const bytes = new TextEncoder().encode(form.elements.where.value);
      const piece = (from, to) => new TextDecoder().decode(bytes.slice(from, to));
      const mark = document.createElement("mark");
      mark.textContent = piece(range[0], range[1]) || " ";
      const code = document.createElement("code");
      code.append(piece(0, range[0]), mark, piece(range[1]));
      refused.append(document.createElement("br"), code);
      const from = piece(0, range[0]).length;
      form.elements.where.focus();
      form.elements.where.setSelectionRange(from, from + piece(range[0], range[1]).length);
    }
    refused.hidden = false;
  };
  const begin = () => {
    end();
    refused.hidden = true;
    head.replaceChildren();
    body.replaceChildren();
    shown = 0;
    columns = [];
    told.textContent = words.waits;
    stop.disabled = false;
    stream = new EventSource(`${form.dataset.tap}?${new URLSearchParams(new FormData(form))}`);
    stream.addEventListener("fields", (e) => {
      columns = JSON.parse(e.data);
      head.replaceChildren(row("th", columns));
    });
    stream.addEventListener("rows", (e) => {
      for (const one of JSON.parse(e.data)) {
        const more = Object.keys(one).filter((k) => !columns.includes(k));
        if (more.length) {
          columns.push(...more);
          head.replaceChildren(row("th", columns));
        }
        body.prepend(row("td", columns.map((c) => text(one[c]))));
        shown++;
      }
      while (body.children.length > most) body.lastChild.remove();
      told.textContent = `${shown} ${words.shown}`;
    });
    stream.addEventListener("refused", (e) => { end(""); refuse(JSON.parse(e.data)); });
    stream.addEventListener("end", (e) => {
      const { rows, missed, lost } = JSON.parse(e.data);
      end(`${words.ended}: ${rows} ${words.passed}, ${missed} ${words.missed}, ${lost} ${words.lost}`);
    });
    stream.onerror = () => end(`${shown} ${words.shown}; ${words.gone}`);
  };
  form.addEventListener("submit", (e) => { e.preventDefault(); begin(); });
  stop.addEventListener("click", () => end(`${shown} ${words.shown}`));
}
