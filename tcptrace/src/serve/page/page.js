"use strict";
// What the agent says, again and again. Names are others' choice: they become text, never markup.
(() => {
  const $ = (id) => document.getElementById(id);
  const EVERY_MS = 2000, EVENTS = 100;
  let token = sessionStorage.getItem("token") || "";
  let last = "", heard = 0;

  const asked = (path, more) => {
    const headers = { ...more };
    if (token) headers.Authorization = "Bearer " + token;
    return fetch(path, { headers, cache: "no-store" });
  };

  const cell = (row, text, kind) => {
    const td = document.createElement("td");
    if (kind) td.className = kind;
    td.textContent = text;
    row.append(td);
  };

  // To what the agent knows of a process or a socket; whoever is sent the address sees it, too.
  const link = (row, text, place) => {
    const a = document.createElement("a");
    a.href = "#" + place;
    a.textContent = text;
    cell(row, "", "text");
    row.lastChild.append(a);
  };

  const rows = (body, list, fill) => {
    body.replaceChildren(...list.map((one) => {
      const row = document.createElement("tr");
      fill(row, one);
      return row;
    }));
  };

  const long = (ms) => {
    if (ms === null || ms === undefined) return "?";
    const s = ms / 1000;
    if (s < 1) return Math.round(ms) + " ms";
    if (s < 120) return s.toFixed(1) + " s";
    if (s < 7200) return Math.round(s / 60) + " min";
    return s < 172800 ? (s / 3600).toFixed(1) + " h" : (s / 86400).toFixed(1) + " d";
  };
  const verdicts = (of) => Object.entries(of).map(([name, n]) => name + " " + n).join(", ");
  const holder = (s) => {
    const h = s.holders[0];
    return h ? `${h.name || h.comm}[${h.pid}] fd ${h.fd ?? "?"}` : s.holder_source;
  };

  const say = (text, bad) => {
    $("state").textContent = text;
    document.querySelector("header").className = bad ? "bad" : "good";
  };

  const look = async () => {
    try {
      const answers = await Promise.all([
        asked("/api/v1/groups?by=holder"), asked("/api/v1/sockets?limit=100"),
        asked("/api/v1/sockets?leaks=true&limit=1"),
      ]);
      if (answers.some((answer) => answer.status === 401)) {
        $("ask").hidden = false;
        say("a token is needed", true);
        return;
      }
      $("ask").hidden = true;
      const wrong = answers.find((answer) => !answer.ok);
      if (wrong) throw new Error("status " + wrong.status);
      const [groups, sockets, leaking] =
        await Promise.all(answers.map((answer) => answer.json()));
      // Not the groups' sum: a socket that two processes hold is in two of them.
      const leaks = leaking.matching;
      const leaky = groups.groups.filter((g) => g.leaks > 0);
      $("headline").textContent = !leaks ? "No leak is open."
        : !leaky.length ? "Leaks are open, and who holds them is not known."
        : leaky[0].name + " holds " + leaky[0].leaks + " of " + leaks + " leaks.";
      say(groups.scanned ? (leaks ? "leaks are open" : "no leaks") : "the first scan has not ended",
        leaks > 0);
      $("leaks").textContent = leaks;
      $("stuck").textContent = sockets.matching;
      $("processes").textContent = leaky.length + groups.more;
      $("oldest").textContent = sockets.sockets.length ? long(sockets.sockets[0].age_ms.min) : "-";
      $("time").textContent = new Date(groups.time).toLocaleString();
      rows($("holders"), groups.groups.slice(0, 50), (row, g) => {
        const pid = /\[(\d+)\]$/.exec(g.key);
        if (pid) link(row, g.name, "pid=" + pid[1]);
        else cell(row, g.name, "text");
        cell(row, g.leaks);
        cell(row, g.count);
        cell(row, long(g.oldest_ms.min));
        cell(row, verdicts(g.by_verdict), "text");
      });
      rows($("sockets"), sockets.sockets, (row, s) => {
        cell(row, long(s.age_ms.min));
        cell(row, s.state, "text");
        cell(row, s.verdict || "-", "text");
        cell(row, holder(s), "text");
        cell(row, s.local, "text");
        cell(row, s.remote, "text");
        cell(row, s.evidence.recv_q ?? "-");
        link(row, "explain cookie:" + s.cookie, "cookie=" + s.cookie);
      });
    } catch (e) {
      say("no answer: " + e.message, true);
    }
  };

  const reason = async (answer) => {
    const text = await answer.text();
    try {
      return JSON.parse(text).error;
    } catch (e) {
      return "status " + answer.status;
    }
  };

  // The page on a process or a socket that the address names.
  const explain = async () => {
    const place = /^#(pid|cookie)=(\d+)$/.exec(location.hash);
    if (!place) return $("page").close();
    const width = Math.max(40, Math.min(110, Math.floor((innerWidth - 90) / 8)));
    let text;
    try {
      const answer = await asked(`/api/v1/explain?${place[1]}=${place[2]}&format=text&width=${width}`);
      text = answer.ok ? await answer.text() : await reason(answer);
    } catch (e) {
      text = "no answer: " + e.message;
    }
    $("about").textContent = `tcptrace explain ${place[1] === "pid" ? "" : "cookie:"}${place[2]}`;
    $("said").textContent = text;
    if (!$("page").open) $("page").showModal();
  };

  // What the agent remembers, as a file: by hand, since a link sends no token.
  const save = async () => {
    try {
      const answer = await asked("/api/v1/recording");
      if (!answer.ok) throw new Error(await reason(answer));
      const a = document.createElement("a");
      a.href = URL.createObjectURL(await answer.blob());
      a.download = location.hostname + "-" + new Date().toISOString().replaceAll(":", "") + ".tct";
      a.click();
      setTimeout(() => URL.revokeObjectURL(a.href), 60000);
      $("recorded").textContent = "tcptrace replay " + a.download;
    } catch (e) {
      $("recorded").textContent = e.message;
    }
  };

  const told = (kind, event) => {
    heard += 1;
    $("heard").textContent = heard;
    const item = document.createElement("li");
    const ends = event.local ? ` ${event.local} ${event.remote}` : "";
    const who = event.holders ? " " + holder(event) : "";
    const why = event.verdict ? " " + event.verdict : "";
    item.textContent = `${new Date(event.time).toLocaleTimeString()} ${kind}${why}${who}${ends}`;
    $("events").prepend(item);
    while ($("events").children.length > EVENTS) $("events").lastChild.remove();
  };

  // By hand: EventSource sends no token.
  const listen = async () => {
    for (;;) {
      try {
        const answer = await asked("/api/v1/events", last ? { "Last-Event-ID": last } : {});
        if (!answer.ok) throw new Error("status " + answer.status);
        const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
        let rest = "";
        for (;;) {
          const { value, done } = await reader.read();
          if (done) break;
          rest += value;
          const pieces = rest.split("\n\n");
          rest = pieces.pop();
          for (const piece of pieces) {
            const field = (name) => (piece.match(new RegExp("^" + name + ": (.*)$", "m")) || [])[1];
            const [kind, data] = [field("event"), field("data")];
            last = field("id") || last;
            if (kind && data && kind !== "restarted") told(kind, JSON.parse(data));
          }
        }
      } catch (e) {
        // The next try says it, if it lasts.
      }
      await new Promise((go) => setTimeout(go, 3000));
    }
  };

  $("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    token = $("token").value;
    sessionStorage.setItem("token", token);
    look();
    explain();
  });
  setInterval(() => { if (!document.hidden) look(); }, EVERY_MS);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
  $("page").addEventListener("close", () => {
    if (location.hash) history.pushState(null, "", location.pathname);
  });
  addEventListener("hashchange", explain);
  $("recording").addEventListener("click", save);
  look();
  listen();
  if (location.hash) explain();
})();
