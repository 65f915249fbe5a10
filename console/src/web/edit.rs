//! The form of a task: new, edit, copy; what is written in it is kept, and becomes a version if a run would take it.

use super::form::Form;
use super::gate::Visitor;
use super::layout::{Look, csrf, page as shell};
use crate::accounts::{self, Role};
use crate::alarms::{Receivers, Rule, What};
use crate::settings::{self, MAX_CONFIG, Restart, Settings};
use crate::tasks::{self, Task};
use crate::{App, Refusal, audit, draw};
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use millrace_plan::{Options, Planned, ide};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

type Done<T> = Result<T, Refusal>;

/// What a new task begins with.
const FIRST: &str = "name: my-job
streams:
  lines:
    config:
      source: {type: Inline, config: {rows: [{id: 1, city: Beijing}, {id: 2, city: Chengdu}]}}
sink:
  - {type: Stdout, config: {format: json}}
";

/// The settings of a form; problems of fields that hold no number.
fn read(form: &Form) -> (Settings, Vec<Refusal>) {
    let mut wrong = vec![];
    let config = form.get("config").replace("\r\n", "\n");
    let alarms = form
        .all("alarm_what")
        .zip(form.all("alarm_bound"))
        .zip(form.all("alarm_seconds"))
        .zip(form.all("alarm_metric"))
        .filter_map(|(((what, bound), seconds), metric)| {
            let what = What::ALL.into_iter().find(|w| w.name() == what)?;
            let bound = if bound.trim().is_empty() { Some(0.0) } else { bound.trim().parse().ok() };
            let seconds = if seconds.trim().is_empty() { Some(0) } else { seconds.trim().parse().ok() };
            match bound.zip(seconds) {
                Some((bound, seconds)) => Some(Rule { what, bound, seconds, metric: metric.trim().into() }),
                None => {
                    wrong.push(Refusal::bad(format!("the alarm `{}` needs numbers", what.name())));
                    None
                }
            }
        })
        .collect();
    let mut variables = BTreeMap::new();
    for line in form.get("variables").lines().filter(|l| !l.trim().is_empty()) {
        match line.split_once('=') {
            Some((k, v)) => drop(variables.insert(k.trim().to_string(), v.trim_end_matches('\r').to_string())),
            None => wrong.push(Refusal::bad(format!("`{line}` is no variable: write NAME=value"))),
        }
    }
    let settings = Settings {
        description: form.trimmed("description").into(),
        tags: form.get("tags").split([',', '，']).map(str::trim).filter(|t| !t.is_empty()).map(Into::into).collect(),
        config,
        variables,
        memory: form.trimmed("memory").into(),
        workers: number(form, "workers", &mut wrong),
        processes: number(form, "processes", &mut wrong),
        open_files: number(form, "open_files", &mut wrong),
        memory_limit: form.trimmed("memory_limit").into(),
        cpu: number(form, "cpu", &mut wrong),
        restart: restart(form, &mut wrong),
        alarms,
        receivers: Receivers {
            mails: form.get("mails").split([',', '\n', '，']).map(str::trim).filter(|t| !t.is_empty()).map(Into::into).collect(),
            webhook: form.trimmed("webhook").into(),
        },
    };
    (settings, wrong)
}

fn number<T: std::str::FromStr>(form: &Form, name: &str, wrong: &mut Vec<Refusal>) -> Option<T> {
    let text = form.trimmed(name);
    let number = text.parse().ok();
    if !text.is_empty() && number.is_none() {
        wrong.push(Refusal::bad(format!("`{name}` must be a number")));
    }
    number
}

fn restart(form: &Form, wrong: &mut Vec<Refusal>) -> Restart {
    let or = |name: &str, default: &str| Some(form.trimmed(name)).filter(|t| !t.is_empty()).unwrap_or(default).to_string();
    match form.get("restart") {
        "none" => Restart::None,
        "fixed_delay" => Restart::FixedDelay { attempts: number(form, "attempts", wrong).unwrap_or(3), delay: or("delay", "10s") },
        "failure_rate" => Restart::FailureRate {
            max_failures: number(form, "attempts", wrong).unwrap_or(3),
            interval: or("interval", "5m"),
            delay: or("delay", "10s"),
        },
        "exponential_delay" => Restart::ExponentialDelay { initial: or("delay", "1s"), max: or("interval", "1m") },
        _ => Restart::Topology,
    }
}

/// What the page shows beside the fields.
#[derive(Default)]
struct About {
    id: Option<i64>,
    name: String,
    team: i64,
    note: String,
    problems: Vec<String>,
    secrets: Vec<(String, i64)>,
    has_draft: bool,
}

#[derive(Deserialize)]
pub struct From {
    copy: Option<i64>,
}

pub async fn new(State(app): State<Arc<App>>, l: Look, v: Visitor, Query(from): Query<From>) -> Done<Markup> {
    v.must_be(Role::Editor)?;
    let (settings, about) = match from.copy {
        None => (Settings { config: FIRST.into(), ..Settings::default() }, About::default()),
        Some(id) => {
            let t = tasks::find(&app, &v, id, Role::Editor)?;
            let settings = app.store.run(|db| tasks::draft(db, &t))?;
            (settings, About { name: format!("{} 2", t.name), team: t.team, ..About::default() })
        }
    };
    page(&app, &l, &v, &settings, &about)
}

pub async fn edit(State(app): State<Arc<App>>, l: Look, v: Visitor, Path(id): Path<i64>) -> Done<Markup> {
    let t = tasks::find(&app, &v, id, Role::Editor)?;
    let settings = app.store.run(|db| tasks::draft(db, &t))?;
    let about = of(&app, &t)?;
    page(&app, &l, &v, &settings, &about)
}

fn of(app: &App, t: &Task) -> Done<About> {
    let secrets = app.store.run(|db| tasks::secret_names(db, t.id))?;
    Ok(About { id: Some(t.id), name: t.name.clone(), team: t.team, secrets, has_draft: t.has_draft, ..About::default() })
}

pub async fn create(State(app): State<Arc<App>>, l: Look, v: Visitor, form: Form) -> Done<Response> {
    v.must_be(Role::Editor)?;
    let (settings, wrong) = read(&form);
    let team = form.trimmed("team").parse().unwrap_or_default();
    let name = form.trimmed("name");
    let kept = match settings.config.len() > MAX_CONFIG {
        true => Err(Refusal::bad(format!("a configuration has at most {} KiB", MAX_CONFIG >> 10))),
        false => tasks::create(&app, &v, team, name, &settings),
    };
    match kept {
        Ok(id) => {
            audit::note(&app, &v.user.name, &v.address, Some(id), "create", name);
            save(&app, &l, &v, &tasks::find(&app, &v, id, Role::Editor)?, &form, settings, wrong).await
        }
        Err(e) => {
            let about = About { name: name.into(), team, problems: vec![e.message], ..About::default() };
            Ok((e.status, page(&app, &l, &v, &settings, &about)?).into_response())
        }
    }
}

pub async fn update(State(app): State<Arc<App>>, l: Look, v: Visitor, Path(id): Path<i64>, form: Form) -> Done<Response> {
    let t = tasks::find(&app, &v, id, Role::Editor)?;
    let (settings, wrong) = read(&form);
    if settings.config.len() > MAX_CONFIG {
        return Err(Refusal::bad(format!("a configuration has at most {} KiB", MAX_CONFIG >> 10)));
    }
    if let Err(e) = tasks::keep_draft(&app, &t, form.trimmed("name"), &settings) {
        let about = About { name: form.trimmed("name").into(), problems: vec![e.message], ..of(&app, &t)? };
        return Ok((e.status, page(&app, &l, &v, &settings, &about)?).into_response());
    }
    save(&app, &l, &v, &t, &form, settings, wrong).await
}

/// The draft is kept; this makes it a version if that was asked for and a run would take it.
async fn save(app: &Arc<App>, l: &Look, v: &Visitor, t: &Task, form: &Form, settings: Settings, mut wrong: Vec<Refusal>) -> Done<Response> {
    let (name, value) = (form.trimmed("secret_name"), form.get("secret_value"));
    if !name.is_empty() {
        match tasks::set_secret(app, t, name, Some(value)) {
            Ok(()) => audit::note(app, &v.user.name, &v.address, Some(t.id), "set-secret", name),
            Err(e) => wrong.push(e),
        }
    }
    for name in form.all("secret_delete") {
        tasks::set_secret(app, t, name, None)?;
        audit::note(app, &v.user.name, &v.address, Some(t.id), "delete-secret", name);
    }
    if form.get("do") == "draft" {
        audit::note(app, &v.user.name, &v.address, Some(t.id), "keep-draft", "");
        return Ok(Redirect::to(&format!("/tasks/{}/edit", t.id)).into_response());
    }
    match publish(app, v, t, &settings, form.trimmed("note"), wrong).await {
        Ok(_) => Ok(Redirect::to(&format!("/tasks/{}", t.id)).into_response()),
        Err(problems) => {
            let about =
                About { problems, name: form.trimmed("name").into(), note: form.get("note").into(), has_draft: true, ..of(app, t)? };
            Ok((StatusCode::UNPROCESSABLE_ENTITY, page(app, l, v, &settings, &about)?).into_response())
        }
    }
}

/// Makes settings a version, or says all that a run would have against them.
pub async fn publish(
    app: &Arc<App>,
    v: &Visitor,
    t: &Task,
    settings: &Settings,
    note: &str,
    wrong: Vec<Refusal>,
) -> Result<i64, Vec<String>> {
    let mut problems: Vec<String> = wrong.into_iter().map(|r| r.message).collect();
    problems.extend([settings.check(), settings.receivers.check(app)].into_iter().filter_map(|c| c.err().map(|e| e.message)));
    let secrets = app.store.run(|db| tasks::secrets(app, db, t.id)).map_err(|e| vec![e.message])?;
    problems.extend(tasks::fits(&settings.variables, &secrets).err().map(|e| e.message));
    let planned = plan(app, t.id, settings, secrets).await.map_err(|e| vec![e.message])?;
    problems.extend(settings::errors(&planned).iter().map(|d| format!("{}:{}: [{}] {}", d.line, d.column, d.id, d.message)));
    if !problems.is_empty() {
        return Err(problems);
    }
    let number = tasks::publish(app, v, t, settings, note).map_err(|e| vec![e.message])?;
    audit::note(app, &v.user.name, &v.address, Some(t.id), "save", &format!("version {number}"));
    Ok(number)
}

/// Lint, away from the threads that answer others.
async fn plan(app: &Arc<App>, id: i64, settings: &Settings, secrets: BTreeMap<String, String>) -> Done<Planned> {
    let (folder, confine, settings) = (app.job_folder(id), app.confine(id), settings.clone());
    let permit = app.lints.clone().acquire_owned().await.map_err(|e| Refusal::failed(e.to_string()))?;
    let work = move || {
        let _permit = permit;
        // Relative paths are looked at from there.
        let _ = std::fs::create_dir_all(&folder);
        let planned = settings.plan(&secrets, &folder, confine);
        Planned { plan: None, ..planned }
    };
    tokio::task::spawn_blocking(work).await.map_err(|e| Refusal::failed(e.to_string()))
}

/// What lint says of a form that is being written, and its graph.
pub async fn lint(State(app): State<Arc<App>>, v: Visitor, form: Form) -> Done<Json<Value>> {
    v.must_be(Role::Editor)?;
    let (settings, _) = read(&form);
    if settings.config.len() > MAX_CONFIG {
        return Err(Refusal::bad(format!("a configuration has at most {} KiB", MAX_CONFIG >> 10)));
    }
    let secrets = match form.trimmed("id").parse::<i64>() {
        Ok(id) => {
            let t = tasks::find(&app, &v, id, Role::Editor)?;
            app.store.run(|db| tasks::secrets(&app, db, t.id))?
        }
        Err(_) => BTreeMap::new(),
    };
    // Number 0 belongs to no task.
    let id = form.trimmed("id").parse().unwrap_or(0);
    let settings = if settings.check().is_ok() {
        settings
    } else {
        Settings { config: settings.config, variables: settings.variables, ..Settings::default() }
    };
    let planned = plan(&app, id, &settings, secrets).await?;
    let own: Vec<_> = planned.diagnostics.iter().filter(|d| d.file == settings::FILE).take(PROBLEMS).collect();
    Ok(Json(json!({"problems": own, "graph": draw::graph(&planned.graph, None, None).into_string()})))
}

/// Problems that the editor shows at most; a version is refused for any.
const PROBLEMS: usize = 500;
/// Suggestions at most.
const SUGGESTIONS: usize = 60;

/// What may be written where the caret is, between `before` and `after`: as the language server has it. `word` is what a suggestion takes the
/// place of.
pub async fn complete(State(app): State<Arc<App>>, v: Visitor, form: Form) -> Done<Json<Value>> {
    v.must_be(Role::Editor)?;
    let (before, after) = (form.get("before").replace("\r\n", "\n"), form.get("after").replace("\r\n", "\n"));
    if before.len() + after.len() > MAX_CONFIG {
        return Err(Refusal::bad("the configuration is too long"));
    }
    // Number 0 belongs to no task.
    let id = match form.trimmed("id").parse::<i64>() {
        Ok(id) => tasks::find(&app, &v, id, Role::Editor)?.id,
        Err(_) => 0,
    };
    let (dir, confine) = (app.job_folder(id), app.confine(id));
    let permit = app.lints.clone().acquire_owned().await.map_err(|e| Refusal::failed(e.to_string()))?;
    let work = move || {
        let _permit = permit;
        let options = Options { variables: Some(BTreeMap::new()), confine: Some(confine), placeholders: true, ..Options::default() };
        let text = format!("{before}{after}");
        let doc = ide::Document { name: settings::FILE, text: &text, dir: &dir, options: &options };
        let all =
            ide::complete(&doc, before.len()).into_iter().filter(|c| c.replace.end >= before.len() && c.replace.start <= before.len());
        let one = |c: ide::Completion| {
            let about = if c.about.is_empty() { c.detail } else { c.about.replace('\n', " ") };
            let about = about.split_inclusive(". ").next().unwrap_or_default().trim().to_string();
            json!({"label": c.label, "text": c.insert, "about": about, "word": &before[c.replace.start..]})
        };
        let fits = |c: &ide::Completion| c.label.to_lowercase().starts_with(&before[c.replace.start..].to_lowercase());
        json!({"suggestions": all.filter(fits).take(SUGGESTIONS).map(one).collect::<Vec<_>>()})
    };
    Ok(Json(tokio::task::spawn_blocking(work).await.map_err(|e| Refusal::failed(e.to_string()))?))
}

fn page(app: &App, l: &Look, v: &Visitor, s: &Settings, about: &About) -> Done<Markup> {
    let teams = app.store.run(|db| accounts::teams_of(db, &v.user))?;
    let action = about.id.map_or_else(|| "/tasks/new".to_string(), |id| format!("/tasks/{id}/edit"));
    let title = if about.id.is_some() { l.t("Edit the task") } else { l.t("New task") };
    let variables: String = s.variables.iter().map(|(k, v)| format!("{k}={v}\n")).collect();
    let shown = |n: Option<u64>| n.map_or_else(String::new, |n| n.to_string());
    Ok(shell(
        l,
        Some(v),
        title,
        html! {
            @for p in &about.problems { p class="problem" role="alert" { (l.lang.words(p)) } }
            @if about.has_draft { p class="note" { (l.t("This is a draft: it is kept, and no run uses it before it is saved.")) } }
            form method="post" action=(action) {
                (csrf(v))
                @if let Some(id) = about.id { input type="hidden" name="id" value=(id); }
                div class="grid" {
                    label { (l.t("Name")) input name="name" value=(about.name) required maxlength="80"; }
                    @if about.id.is_none() {
                        label { (l.t("Team")) select name="team" { @for (id, name) in &teams { option value=(id) selected[*id == about.team] { (name) } } } }
                    }
                    label { (l.t("Tags, divided by commas")) input name="tags" value=(s.tags.join(", ")); }
                    label { (l.t("Type and engine version")) select { option { "YAML topology · Millrace " (env!("CARGO_PKG_VERSION")) } } }
                }
                label { (l.t("Description")) textarea name="description" rows="2" maxlength="2000" { (s.description) } }
                h2 id="config" { (l.t("Configuration")) }
                label { (l.t("Upload a file")) input type="file" id="upload" accept=".yaml,.yml" data-large=(l.t("The file is larger than 1 MiB.")); }
                div class="editor" data-lint="/lint" {
                    pre aria-hidden="true" {}
                ul class="completions" id="completions" role="listbox" aria-label=(l.t("Suggestions")) hidden {}
                    textarea name="config" spellcheck="false" autocapitalize="off" autocomplete="off" wrap="off" aria-label=(l.t("Configuration")) aria-describedby="problems leave" aria-controls="completions" { "\n" (s.config) }
                }
                p class="note" id="leave" { (l.t("Control and space suggest what may stand there. Tab indents; Escape and then Tab leaves the editor.")) }
                ul class="lint" id="problems" aria-live="polite" {}
                div class="graph" id="graph" tabindex="0" role="region" aria-label=(l.t("Graph")) {}
                h2 { (l.t("Variables and secrets")) }
                div class="grid" {
                    label { (l.t("Variables, a line NAME=value each")) textarea name="variables" rows="4" spellcheck="false" { "\n" (variables) } }
                    fieldset {
                        legend { (l.t("Secrets: they can be set, never read")) }
                        @for (name, _) in &about.secrets { label class="check" { input type="checkbox" name="secret_delete" value=(name); code { (name) } " " (l.t("delete")) } }
                        label { (l.t("Name")) input name="secret_name" autocomplete="off"; }
                        label { (l.t("Value")) input name="secret_value" type="password" autocomplete="new-password"; }
                    }
                }
                h2 { (l.t("Resources")) }
                div class="grid" {
                    label { (l.t("Memory, as 2GiB")) input name="memory" value=(s.memory); }
                    label { (l.t("Workers")) input name="workers" inputmode="numeric" value=(shown(s.workers.map(Into::into))); }
                    label { (l.t("Processes")) input name="processes" inputmode="numeric" value=(shown(s.processes.map(Into::into))); }
                    label { (l.t("Open files, at most")) input name="open_files" inputmode="numeric" value=(shown(s.open_files)); }
                    label { (l.t("Memory limit, as 4GiB")) input name="memory_limit" value=(s.memory_limit) aria-describedby="limits"; }
                    label { (l.t("Processors, at most")) input name="cpu" inputmode="decimal" value=(s.cpu.map_or_else(String::new, |n| n.to_string())) aria-describedby="limits"; }
                }
                p class="note" id="limits" {
                    @if app.limits.by_groups() {
                        (l.t("The system holds all limits of a job: memory and processors by control groups, open files by process."))
                    } @else {
                        (l.t("The system holds open files and, in whole numbers, processors; memory is looked at by the job's supervisor ten times a second, which ends what is above its limit. There are no control groups that the console may manage."))
                    }
                }
                (restarts(l, &s.restart))
                (alarms(l, s))
                div class="row" {
                    label { (l.t("What was changed")) input name="note" value=(about.note) maxlength="200"; }
                    button class="main" name="do" value="save" { (l.t("Save")) }
                    button name="do" value="draft" { (l.t("Keep as a draft")) }
                }
            }
        },
    ))
}

fn restarts(l: &Look, r: &Restart) -> Markup {
    let (chosen, attempts, delay, interval) = match r {
        Restart::Topology => ("topology", String::new(), "", ""),
        Restart::None => ("none", String::new(), "", ""),
        Restart::FixedDelay { attempts, delay } => ("fixed_delay", attempts.to_string(), delay.as_str(), ""),
        Restart::FailureRate { max_failures, interval, delay } => {
            ("failure_rate", max_failures.to_string(), delay.as_str(), interval.as_str())
        }
        Restart::ExponentialDelay { initial, max } => ("exponential_delay", String::new(), initial.as_str(), max.as_str()),
    };
    let all = [
        ("topology", l.t("As the configuration says")),
        ("none", l.t("Never")),
        ("fixed_delay", l.t("A number of times, some time apart")),
        ("failure_rate", l.t("While failures are rare enough")),
        ("exponential_delay", l.t("Always, with growing pauses")),
    ];
    html! {
        h2 { (l.t("Restart after a failure")) }
        div class="grid" {
            label { (l.t("Strategy")) select name="restart" { @for (value, name) in all { option value=(value) selected[value == chosen] { (name) } } } }
            label { (l.t("Attempts, or failures within the interval")) input name="attempts" inputmode="numeric" value=(attempts); }
            label { (l.t("Pause, as 10s")) input name="delay" value=(delay); }
            label { (l.t("Interval, or longest pause")) input name="interval" value=(interval); }
        }
    }
}

fn alarms(l: &Look, s: &Settings) -> Markup {
    let name = |w: What| match w {
        What::Liveness => l.t("The job is not well"),
        What::Restarts => l.t("Restarts above"),
        What::Lag => l.t("Lag above, records"),
        What::WatermarkDelay => l.t("Watermark delay above, seconds"),
        What::JoinRate => l.t("Join rate below, 0 to 1"),
        What::RejectRate => l.t("Reject rate above, 0 to 1"),
        What::CheckpointFailures => l.t("Failed checkpoints above"),
        What::NoData => l.t("Records a second below"),
        What::Metric => l.t("A metric, or an expression over metrics, above"),
    };
    let rules = s.alarms.iter().map(Some).chain([None, None]);
    html! {
        h2 { (l.t("Alarms")) }
        @for rule in rules {
            div class="row card" {
                label { (l.t("When")) select name="alarm_what" {
                    option value="" { (l.t("no alarm")) }
                    @for w in What::ALL { option value=(w.name()) selected[rule.is_some_and(|r| r.what == w)] { (name(w)) } }
                } }
                label { (l.t("Bound")) input name="alarm_bound" inputmode="decimal" value=(rule.map_or_else(String::new, |r| r.bound.to_string())); }
                label { (l.t("For, seconds")) input name="alarm_seconds" inputmode="numeric" value=(rule.map_or_else(String::new, |r| r.seconds.to_string())); }
                label class="wide" { (l.t("Metric or expression")) input name="alarm_metric" value=(rule.map_or("", |r| r.metric.as_str())) placeholder="rate(x_total{part=\"a\"}) / y > 0.1" spellcheck="false" maxlength="500"; }
            }
        }
        div class="grid" {
            label { (l.t("E-mail addresses, divided by commas")) input name="mails" value=(s.receivers.mails.join(", ")); }
            label { (l.t("Webhook, an address that the administrator allows")) input name="webhook" value=(s.receivers.webhook); }
        }
    }
}
