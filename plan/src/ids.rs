//! What each problem means that lint can tell: one table by id, for `millrace explain <id>`.

pub mod shown;

/// A page: what the problem says, why it is one, and what to do.
pub struct Page {
    pub id: &'static str,
    pub what: &'static str,
    pub why: &'static str,
    pub fix: &'static str,
}

impl Page {
    /// The page as text, with an example: what is told, and what is not.
    pub fn text(&self) -> String {
        let mut out = format!("{} (told by lint)\n\n{}\n\nWhy: {}\n\nFix: {}\n", self.id, self.what, self.why, self.fix);
        let indented = |text: &str| text.lines().map(|l| format!("    {l}\n")).collect::<String>();
        match self.example() {
            Some((bad, good)) => {
                let good = if good.trim().is_empty() { "(without these lines)\n".to_string() } else { good };
                out.push_str(&format!("\nBad:\n\n{}\nGood:\n\n{}", indented(&bad), indented(&good)));
            }
            None => {
                let why = shown::UNSHOWN.iter().find(|(id, _)| *id == self.id).map_or("", |(_, why)| *why);
                out.push_str(&format!("\nNo example: {why}.\n"));
            }
        }
        out
    }

    /// Lines that are told, and what should stand in their place.
    pub fn example(&self) -> Option<(String, String)> {
        let of_row =
            shown::ROWS.iter().find(|r| r.id == self.id).map(|r| (format!("{}\n# of a row {}\n", r.bad, r.row), format!("{}\n", r.good)));
        let of_command = shown::COMMANDS.iter().find(|c| c.id == self.id);
        let command = |args: &str| format!("millrace lint job.yaml {args}\n");
        of_row.or_else(|| of_command.map(|c| (command(c.bad), command(c.good)))).or_else(|| example(self.id))
    }
}

/// Cases of lint, which tests hold word by word: a base, a change to it, and what lint says then.
const CORPUS: &[&str] = &[
    include_str!("../corpus/keys.md"),
    include_str!("../corpus/wiring.md"),
    include_str!("../corpus/fields.md"),
    include_str!("../corpus/servers.md"),
    include_str!("../corpus/retry.md"),
    include_str!("../corpus/style.md"),
    include_str!("../corpus/hands.md"),
    include_str!("../corpus/reuse.md"),
    include_str!("../corpus/syntax.md"),
    include_str!("../corpus/edits.md"),
];

/// The change of the shortest case of which lint says this first: its lines, and those that they stand for in the base.
fn example(id: &str) -> Option<(String, String)> {
    let told = |case: &str, mark: &str| ["error", "warning", "note"].iter().any(|s| case.contains(&format!("{mark}{s}[{id}]")));
    let lines = |diff: &str, sign: char| diff.lines().filter_map(|l| l.strip_prefix(sign)).map(|l| format!("{l}\n")).collect::<String>();
    // Where it is told first, else where it is told at all.
    ["```text\n", "\n"].iter().find_map(|mark| {
        CORPUS
            .iter()
            .flat_map(|page| page.split("\n## "))
            .filter(|case| told(case, mark))
            .filter_map(|case| case.split("```diff\n").nth(1)?.split("```").next())
            .min_by_key(|diff| diff.len())
            .map(|diff| (lines(diff, '+'), lines(diff, '-')))
    })
}

/// The page of an id, if there is such a problem.
pub fn page(id: &str) -> Option<&'static Page> {
    PAGES.binary_search_by(|p| p.id.cmp(id)).ok().map(|i| &PAGES[i])
}

const fn of(id: &'static str, what: &'static str, why: &'static str, fix: &'static str) -> Page {
    Page { id, what, why, fix }
}

/// Sorted by id.
#[rustfmt::skip]
pub const PAGES: &[Page] = &[
    of("aggregate-not-allowed", "An aggregate like `sum(x)` stands where there is one row.", "Filters, Map and keys look at single rows; there is nothing to add up.", "Move it to the `aggregates` of a window."),
    of("alias-bomb", "YAML aliases expand to more than the planner reads.", "A small file must not become a huge one.", "Write the repeated part out, or repeat less of it."),
    of("ambiguous-input", "It is not clear which output this part reads.", "The part before it has several outputs, or there are several streams.", "Write `input: name` or `input: name.port`."),
    of("bad-duration", "This is no duration.", "Times carry their units, so that nobody takes seconds for milliseconds.", "Write `10s`, `500ms`, `1h30m`."),
    of("bad-fragment", "A fragment is none, or not of the kind that is needed here.", "A fragment is one thing: operators, sinks, a source, a store or a stream.", "Write its parts under one key, and use it where such parts stand."),
    of("bad-include", "An included file has a section that cannot be included.", "Transforms, sinks, guards and tests have an order and names of their own.", "Make a fragment of them, and use it."),
    of("bad-name", "This cannot be a name.", "Names appear in `input:`, in paths and in file names.", "Begin with a letter and use letters, digits, `_` and `-`."),
    of("bad-set", "A key of `--set` leads nowhere.", "A setting that changes nothing is a slip of the pen.", "Give the whole path: `streams.clicks.config.source.config.start`; items of lists go by number or by `name`."),
    of("bad-size", "This is no size.", "Sizes carry their units.", "Write `64MiB`, `1GB`, `4096B`."),
    of("bad-test", "A test cannot be run as it is written.", "What it gives or expects is not clear.", "A record is one of `text`, `row` and `file`; an expectation is a list of rows, `none`, or `exact`, `unordered`, `subset`, `count`; times are `10s` or `2026-01-01T00:00:00Z`."),
    of("bad-time-format", "A time field's format is unknown.", "A format that is wrong by a factor of 1,000 would put every row into 1970.", "Use `epoch_ms`, `epoch_s`, `iso8601` or a pattern."),
    of("bad-variable", "A `${...}` is not complete, or its name is no name.", "A variable that is not replaced would be taken as text.", "Write `${NAME}`, `${NAME:-default}` or `${file:path}`; `$${` is the text itself."),
    of("bug", "Millrace cannot plan this and does not know why.", "That is Millrace's fault.", "Report it with the topology."),
    of("charset-without-lines", "The charset's line feed is more than one byte.", "Lines are found by their line feed before they are decoded.", "Convert the input to UTF-8 first."),
    of("check-without-time", "A check of times is asked for and no time is given.", "Without a time there is nothing to check.", "Name the field, or leave the check out."),
    of("columns-needed", "It is not known which fields to write.", "The rows have fields that nobody declared, and here the columns must be fixed.", "Name the `columns`, or declare the fields where the rows are parsed."),
    of("cut-at-hash", "YAML takes ` #` for the beginning of a comment.", "The rest of the value would be silently gone.", "Put the whole value in quotes."),
    of("cycle", "Parts read each other in a circle.", "Rows would go round for ever.", "Only a stream with `role: retry` may close a circle."),
    of("dangling-input", "Nothing is called what this reads.", "A part without input would do nothing.", "Correct the name; `millrace graph` shows them."),
    of("dedup-without-key", "Dedup does not know which rows are equal.", "It compares the fields of its key.", "Name them, `keys: [id]`, or put a KeyBy before it."),
    of("denied-property", "This property of the client library cannot be set in a topology.", "It would load code, or write files.", "Leave it out."),
    of("different-columns", "The inputs of one file have different columns.", "A CSV file has one header.", "Name the `columns`, or give each input a sink of its own."),
    of("duplicate-key", "A key stands twice in one map.", "YAML would silently take one of them.", "Keep one."),
    of("duplicate-name", "Two parts have one name.", "`input:` could not tell them apart.", "Rename one."),
    of("empty-interval", "The join's interval contains no time.", "`lower` lies above `upper`, so that no row can match.", "Exchange the bounds."),
    of("empty-keys", "A key has no fields.", "All rows would be one group.", "Name at least one field."),
    of("empty-name", "A field has no name.", "It could not be read.", "Give it one."),
    of("endless-retry", "Requeue has no bound.", "A row that never matches would go round for ever.", "Set `max_attempts` or `max_age`."),
    of("expression-syntax", "An expression cannot be read.", "It is no SQL expression.", "Look at the place that is underlined; texts stand in single quotes, names with odd characters in double ones."),
    of("expression-too-long", "An expression is too long or too deep.", "It would take too much stack to compile.", "Split it over several Map fields."),
    of("few-partitions", "A topic has fewer partitions than the job has workers (told with --connect).", "A partition is read by one worker: the others have nothing to read.", "Give the topic more partitions, or set `parallelism` lower."),
    of("field-clash", "Two fields would have one name.", "One of them would hide the other.", "Rename one, or drop one before."),
    of("fragment-cycle", "A fragment uses itself, directly or by way of others.", "It would have no end.", "Break the circle."),
    of("guard-cannot-veto", "A guard cannot hold back what this job publishes.", "Output leaves at once, or what was read cannot be read again: then a red guard comes too late.", "Use sinks with exactly-once, a source that can be read again, and `checkpoint: {mode: exactly_once}`."),
    of("include-cycle", "A file includes itself, directly or by way of others.", "There is no order in which to read them.", "Move what both need into a third file."),
    of("include-outside", "An included file lies outside the topology's folder.", "A topology must not read files that its user did not mean to give it.", "Allow the folder: `--include-from DIR`."),
    of("invalid-address", "This is no `host:port`.", "It could not be connected to.", "Write `host:port`."),
    of("invalid-argument", "A function or helper cannot take this constant.", "It would fail for every row.", "`millrace explain <function>` shows what it takes."),
    of("invalid-base64", "A constant is not base64.", "Decoding it would fail for every row.", "Correct the text."),
    of("invalid-cast", "A constant cannot become this type.", "It would fail for every row.", "Correct the constant or the type."),
    of("invalid-character", "One ASCII character is wanted.", "Delimiters and quotes are found byte by byte.", "Write one, like `\",\"`."),
    of("invalid-config", "The config of a part cannot be read.", "A key has a value of the wrong shape.", "`millrace explain <part>` shows the keys."),
    of("invalid-default", "A default does not have its field's type.", "Rows that need it would all be rejected.", "Write a value of that type."),
    of("invalid-delimiter", "A delimiter is empty or not usable here.", "Nothing can be split at it.", "Write one or more characters."),
    of("invalid-escape", "An escape in a constant is wrong.", "Decoding it would fail for every row.", "Correct the text."),
    of("invalid-family", "This is no column family.", "HBase families have no colon and are not empty.", "Write the family alone; columns are `family:name`."),
    of("invalid-format", "The format does not go with the other keys.", "Each format has keys of its own.", "See the page of the part."),
    of("invalid-hex", "A constant is not hexadecimal.", "Decoding it would fail for every row.", "Correct the text."),
    of("invalid-interval", "This is no interval.", "Intervals have a number and a unit.", "Write `INTERVAL '5' MINUTE`."),
    of("invalid-json", "A constant is not JSON.", "Parsing it would fail for every row.", "Correct the text."),
    of("invalid-literal", "A literal cannot be read.", "It is no number, text, or time of the kind it claims.", "Correct it."),
    of("invalid-name", "This is no name for a field or a port.", "Names with `_` in front are Millrace's own; dots and control characters have a meaning.", "Choose another."),
    of("invalid-offsets", "A partition's start is neither an offset nor a word.", "It is not known where to begin.", "Write `0: 1234`, with the partition's number."),
    of("invalid-path", "A path or JSONPath cannot be read, or leads outside.", "Nothing would be found or written there.", "Correct it."),
    of("invalid-pattern", "A pattern cannot be read.", "It would match nothing.", "Correct the place that the message names."),
    of("invalid-property", "The client library does not take this value.", "It says why.", "Correct the value, or leave the property out."),
    of("invalid-regex", "A regular expression cannot be read.", "It would match nothing.", "Correct it; look-around and back-references are not supported."),
    of("invalid-row-key", "The row key is empty or too long.", "HBase takes 1 to 32,767 bytes.", "Correct the template, or the fields that it is made of."),
    of("invalid-schema", "A schema file is not one.", "The fields of the rows are not known.", "Write `fields: {name: type}`."),
    of("invalid-setting", "A setting of the server cannot be passed on.", "The server would refuse every insert, or take it otherwise.", "Correct the value that the message names."),
    of("invalid-time", "This is no time.", "It is not known where to begin.", "Write `2024-01-31T00:00:00Z`."),
    of("invalid-time-format", "A time field's format is unknown.", "Times would be misread.", "Use `epoch_ms`, `epoch_s`, `iso8601` or a pattern."),
    of("invalid-topic", "This is no name of a Kafka topic.", "The broker would refuse it.", "Use letters, digits, `.`, `_` and `-`, at most 249 of them."),
    of("invalid-url", "This is no URL of such a server.", "There is nothing to connect to.", "Write what the message shows."),
    of("invalid-utf8", "A constant is not UTF-8 after decoding.", "The result would be no text.", "Correct it."),
    of("join-depends-on-order", "Which row matches depends on the order of arrival.", "`matches: first` takes whichever came first, which another run may decide otherwise.", "Take `all` or `latest`."),
    of("key-not-scalar", "A key field is a container.", "Two maps that mean the same may be written differently.", "Take fields inside it as the key."),
    of("key-without-effect", "A key is set that does nothing here.", "Somebody believes that it does.", "Take it out, or set what makes it work."),
    of("keys-differ", "The two sides of a join have keys of different length or type.", "No row could match.", "Name as many fields on both sides, of the same types."),
    of("lines-and-rows", "Both `lines` and `rows` are given.", "The source delivers one or the other.", "Keep one."),
    of("merge-conflict", "What git writes where two branches changed the same lines still stands in the file.", "It is no YAML, and nobody has said yet which side holds.", "Keep one side and take the lines with `<<<<<<<`, `=======` and `>>>>>>>` out."),
    of("missing-brokers", "No broker is named.", "There is nothing to connect to.", "Write `brokers: \"host:9092\"`."),
    of("missing-columns", "`columns` names no column.", "Nothing would be written.", "Name some, or leave the key out."),
    of("missing-fields", "The columns of a file without a header are not known.", "They have no names.", "Write `fields: {id: bigint, name: string}` in their order."),
    of("missing-file", "A file cannot be read.", "The topology or a value in it comes from there.", "Check the path: it is relative to the topology file."),
    of("missing-group", "A consumer group is needed here.", "Committed offsets belong to a group.", "Write `group: name`."),
    of("missing-key", "A key that is needed is not there.", "The part has no default for it.", "Add it; `millrace explain <part>` shows it."),
    of("missing-name", "A name is empty.", "The server has nothing of that name.", "Name the table or database."),
    of("missing-parameter", "A use of a fragment does not give a parameter that has no default.", "The fragment's parts cannot be made.", "Write `with: {name: value}`, or give the parameter a default."),
    of("missing-password", "A user is named without a password.", "The server would refuse the login.", "Add the password, best as `${NAME}`."),
    of("missing-path", "A path is empty.", "There is nothing to read or write.", "Write one."),
    of("missing-schema", "The fields of the text are not declared.", "This format has no names of its own.", "Declare `fields` or `schema`."),
    of("missing-score", "A sorted set is written without a score.", "Every member of one has a score.", "Name the field that holds it."),
    of("missing-table", "No table is named.", "There is nothing to read or write.", "Write `table: name`."),
    of("missing-template", "`format: text` has no template.", "It is not known what to write.", "Write `template: \"{{a}} {{b}}\"`."),
    of("missing-topics", "No topic is named.", "There is nothing to read.", "Write `topics: [name]`."),
    of("missing-user", "A password is given without a user.", "It would not be used.", "Add the user."),
    of("missing-variable", "A variable is not set and has no default.", "The value cannot be made.", "Set it in the environment or by `--set NAME=value`, or write `${NAME:-default}`."),
    of("missing-watermark", "A part goes by event time, and its stream does not say where that is.", "Windows would never close.", "Write `watermark: {field, format, max_out_of_orderness}` beside `source`."),
    of("named-twice", "A name stands twice in a list.", "The second one has no effect, or hides the first.", "Keep one."),
    of("no-answer", "A server did not answer in time (told with --connect).", "It is down, or something on the way swallows the question.", "Check the address, or wait longer: `--connect-timeout`."),
    of("not-a-field", "This is a path into a field, and a field of its own is needed.", "Keys and times are read by their slot.", "Declare it where the stream is parsed, or give it a name with Map."),
    of("not-a-number", "A helper needs a number here.", "The constant is none.", "Write a number."),
    of("not-a-retry-stream", "A join's `retry` and streams with `role: retry` belong together.", "Retried rows have a shape and a clock of their own.", "Wire the retry stream to `retry:`, other streams to `left:` and `right:`."),
    of("not-a-time", "A helper needs a time here.", "The constant is none.", "Write an ISO 8601 time or epoch milliseconds."),
    of("not-aggregated", "A value of single rows stands beside aggregates.", "A window has many rows and cannot know whose value is meant.", "Write first(x), last(x), min(x) …, or add it to the key."),
    of("not-allowed", "The topology names a file or a server that it may not reach.", "Whoever runs the job allows certain folders and addresses only.", "Use a path within the task's folder, or ask the administrator to allow it."),
    of("not-an-ip", "A helper needs an IP address here.", "The constant is none.", "Write one, like `10.0.0.1`."),
    of("not-connected", "What a part needs is not there, or says no (told with --connect).", "The job would end as soon as it is started.", "Check the address, the name and the permissions that the message speaks of."),
    of("not-repeatable", "The output depends on the clock.", "A replay of the same input gives other results.", "Use `time_characteristic: EventTime`, and record times instead of `now()`."),
    of("not-stateless-in-operates", "This part cannot be one of a stream's `operates`.", "These run inside the source, before rows are keyed.", "Move it to `transforms`."),
    of("not-utf8", "The file is not UTF-8.", "YAML is read as UTF-8; in another encoding its letters would become others.", "Save it as UTF-8."),
    of("nothing-to-do", "The part's config asks for nothing.", "It would only cost time.", "Say what it should do, or take it out."),
    of("null-comparison", "A value is compared with NULL.", "As in SQL that gives NULL, which is not true: the condition never holds.", "Write `IS NULL` or `IS NOT NULL`."),
    of("odd-key", "A key of a map is not a name.", "Keys are texts.", "Quote it, or check the indentation."),
    of("odd-scalar", "A value is spelled so that it is easily taken for something else.", "`no` is a text in YAML 1.2 and false in 1.1; `08` is the number 8 and loses its zero; `1e3` is the number 1000.", "Quote it where a text is meant; write the number or `false` where that is."),
    of("operates-on-retry", "A retry stream has `operates`.", "Its rows have the join's own shape.", "Take them out."),
    of("order-lost-before-count-window", "Rows of one key may reach a count window in another order than they were read.", "Which rows share a window, and which is first and last in it, then differs from run to run; sums over all windows of a key do not. Streams that meet, `order: any`, parts that work under another key, and joins have this effect.", "Window before they meet, use `order: key`, or aggregate in a way that does not depend on it."),
    of("out-of-range", "A value is too small or too large.", "The message names the bounds.", "Choose one inside them."),
    of("owned-property", "Millrace sets this property of the client library itself.", "Its guarantees depend on it.", "Use the key that the message names."),
    of("owned-setting", "A setting is the sink's own.", "Exactly-once rests on its value.", "Leave it out."),
    of("plain-secret", "A password or another secret is written out.", "The topology lies in a repository, in logs of changes and in backups.", "Take it from outside: `${NAME}` or `${file:/run/secrets/name}`."),
    of("repeated-topic", "A topic is listed twice.", "Its messages would be read twice.", "Keep one."),
    of("retry-without-fallback", "Retried rows have no store to be looked up in.", "They take no part in the join itself.", "Name one: `fallback: <store>`."),
    of("retry-without-time", "Retried rows have no event time.", "The join's left input has lost the field.", "Keep the field on its way to the join."),
    of("rows-and-aggregates", "A window is asked for both its rows and aggregates.", "It gives one or the other.", "Keep one, or use two windows."),
    of("security-clash", "Keys of `security` contradict each other.", "The connection could not be made as written.", "Complete the pair that the message names."),
    of("several-documents", "The file holds several YAML documents.", "A topology is one.", "Split the file."),
    of("shared-file", "Two sinks write one file.", "Their rows would stand among each other, and `on_exists: truncate` of one takes away what the other has written.", "Give each a path of its own, or make one sink with several inputs."),
    of("short-retention", "A topic forgets sooner than the job may have to read it again (told with --connect).", "Rows that are deleted before they are read are lost without a word.", "Let the topic keep its messages longer, or take checkpoints."),
    of("source-not-replayable", "The source cannot be read again.", "What is in flight when the job ends is lost, whatever the sinks guarantee.", "Put a broker or a file between."),
    of("state-without-limit", "A part remembers every key for ever, and its input has no end.", "Its state grows as long as the job runs.", "Say how long a key is remembered: `within: 7d`."),
    of("store-without-key", "The store does not say how it is asked.", "No key can be made of a row.", "Add `key: \"{{...}}\"` to the store's config, or to the part that asks."),
    of("style-absolute-path", "A path begins at the root of one machine (told with --style).", "The job can only run where that folder is.", "Write it from the topology's folder, or take it from outside: `${DIR:-/var/log}`."),
    of("style-alias", "A part is called by another of its names (told with --style).", "One name for one thing is easier to search for.", "Use the name that the message gives; `--fix` does."),
    of("style-blank-lines", "Several blank lines in a row (told with --style).", "One divides as well as three.", "Keep one; `millrace fmt` does."),
    of("style-boolean", "A boolean is spelled with capital letters (told with --style).", "Everywhere else it is `true` and `false`.", "Use the spelling that the message gives; `--fix` does."),
    of("style-comment", "A comment has no space behind its `#` (told with --style).", "It is harder to read, and looks like a value that was switched off.", "Write `# `; `--fix` does."),
    of("style-constant-condition", "A condition is the same for every row (told with --style).", "The part does nothing, or lets nothing through.", "Take it out; for rows that fit nowhere else use the port `rest`."),
    of("style-description", "A fragment says nothing of what it is for (told with --style).", "Whoever uses it must read it first.", "Add `description:`."),
    of("style-duration", "A duration is written in too small a unit (told with --style).", "`86400s` must be counted, `1d` is read.", "Use the spelling that the message gives; `--fix` does."),
    of("style-empty-config", "A config is empty (told with --style).", "It may be left out.", "Take it out."),
    of("style-empty-section", "A section is empty (told with --style).", "It says nothing.", "Take it out."),
    of("style-idle", "A Kafka stream in event time has no `idle_after` (told with --style).", "A partition in which nothing arrives holds up all windows and joins for ever.", "Write `idle_after: 30s`; leave it out where the stream must be waited for, and allow this."),
    of("style-implied-input", "A part reads the one before it without saying so, where most others do (told with --style).", "Another part that is put between changes what it reads.", "Write `input: NAME`."),
    of("style-job-name", "The job has no name (told with --style).", "It is called after its file; under another file name it would not find its state.", "Write `name:`."),
    of("style-key", "A key is not written in snake_case (told with --style).", "All other keys are.", "Use the spelling that the message gives; `--fix` does."),
    of("style-key-order", "The keys of a part stand in an unusual order (told with --style).", "Parts are read faster if all begin alike.", "Write `type`, `name`, `input`, `config`."),
    of("style-last-line", "The file does not end with a line feed (told with --style).", "Tools that join files, and diffs, stumble over it.", "Add one; `--fix` does."),
    of("style-late-output", "Rows leave only every so often (told with --style).", "With exactly-once they become visible with the checkpoint that covers them.", "Take checkpoints more often, or `mode: at_least_once`."),
    of("style-localhost", "An address is that of the machine itself (told with --style).", "The job would look for another server on each machine.", "Take it from outside: `${BROKERS:-localhost:9092}`."),
    of("style-long-expression", "An expression is long (told with --style).", "A part of it that is wrong is hard to find and cannot be tested alone.", "Give its parts names with a Map before."),
    of("style-long-line", "A line is longer than 160 characters (told with --style).", "Its end is not seen.", "Write the map below its key, or fold the text with `>-`."),
    of("style-many-parts", "A topology has more than 40 parts (told with --style).", "Nobody sees the whole.", "Make fragments, or several jobs with topics between them."),
    of("style-name", "A name has capital letters (told with --style).", "Names of made-up parts are snake_case, and metrics and paths show them side by side.", "Write it in snake_case, also where it is read."),
    of("style-no-checkpoint", "Windows or joins over a stream without end, and no checkpoints (told with --style).", "A job that is killed loses what they hold.", "Write `run_env: {checkpoint: {interval: 10s}}`."),
    of("style-no-comment", "A topology of some length has no comment (told with --style).", "Nobody knows what it is for.", "Begin the file with a line that says it."),
    of("style-no-tests", "A topology has no tests (told with --style).", "Whether an edit breaks it shows in production.", "`millrace sample` makes one from real records."),
    of("style-null", "Null is written `~` (told with --style).", "It is easily overlooked.", "Write `null`; `--fix` does."),
    of("style-quotes", "A type stands in quotes (told with --style).", "Quotes tell of something odd, and there is nothing.", "Take them away; `--fix` does."),
    of("style-repeated-address", "One address is written out many times (told with --style).", "It must be changed in many places.", "Say it once under `defaults`."),
    of("style-repeated-steps", "Two streams have the same `operates` (told with --style).", "A change must be made in both.", "Make a fragment of the steps."),
    of("style-section-order", "The sections stand in an unusual order (told with --style).", "Topologies are read faster if all begin alike.", "`millrace fmt` puts them in order."),
    of("style-size", "A size is written as a bare number of bytes (told with --style).", "`67108864` must be counted, `64MiB` is read.", "Use the spelling that the message gives; `--fix` does."),
    of("style-store-down", "A look-up does not say what happens while its store is down (told with --style).", "By default the whole job waits.", "Say `on_store_error`: `wait`, `dead_letter` or `unmatched`."),
    of("style-stream-type", "A stream has the type that all have (told with --style).", "It says nothing.", "Take `type: DefaultStream` out."),
    of("style-template", "A template has spaces inside of its braces (told with --style).", "One spelling is easier to search for.", "Write `{{name}}`; `--fix` does."),
    of("style-trailing-space", "A line ends with spaces (told with --style).", "They make diffs that nobody sees.", "Take them away; `--fix` does."),
    of("style-unnamed-part", "One of several parts of a type has no name (told with --style).", "It is called by its number, and takes another's state when one is put before it.", "Write `name:`."),
    of("style-unnamed-sink", "One of several sinks has no name (told with --style).", "Summary, metrics and tests call it by its number.", "Write `name:`."),
    of("style-untested-sink", "No test looks at a sink (told with --style).", "What it gets may be anything.", "Name it, or what it reads, in `expect` of a test."),
    of("style-weak-sink", "A sink of a job with exactly-once is less than that (told with --style).", "Its rows may come again, or be missing, after a failure.", "Take a sink with an outbox, or know it and allow this."),
    of("syntax", "This is no YAML.", "The parser says where it stopped.", "Look there and at the line above: indentation, quotes, colons."),
    of("tab", "A tab is used for indentation.", "YAML forbids it.", "Use spaces."),
    of("template-or-expr", "A field has both a template and an expression, or neither.", "Its value must come from one of them.", "Keep one."),
    of("template-syntax", "A template cannot be read.", "It is no handlebars template.", "Look at the place that is underlined: every `{{` needs its `}}`, every block its end."),
    of("test-expects-nothing", "A test has no `expect`.", "It passes whatever comes out.", "Write `expect: {OUTPUT: [...]}`; `millrace test --fix` fills in what comes out."),
    of("test-goes-back", "A test sets its clock back.", "The clock of a job never goes back, and what is due has happened.", "Give records of a stream in the order of their `at`; `at` counts from the beginning, `advance` from where the clock stands."),
    of("too-many-columns", "There are more columns than the format can number.", "65,535 is the most.", "Write fewer."),
    of("too-many-inputs", "A part has more inputs than it takes.", "It would not know what they mean.", "Put a Union before it."),
    of("two-open-schemas", "Both the row and the text in it have fields that nobody declares.", "Of equal names it would not be known which is meant.", "Declare the text's `fields`."),
    of("two-retries", "Retry is configured in two ways.", "A row would be retried twice.", "Keep the retry stream or the join's own `retry`."),
    of("two-schemas", "Both `fields` and `schema` declare the fields.", "They may contradict each other.", "Keep one."),
    of("unknown-anchor", "An alias has no anchor.", "`*name` repeats what `&name` marks.", "Define the anchor before it, or quote the value."),
    of("unknown-charset", "No charset has this name.", "The text could not be decoded.", "Use a name of the WHATWG Encoding Standard, like `gb18030`."),
    of("unknown-column", "A column is named that there is not.", "It would always be null.", "Take one of those that the message names."),
    of("unknown-field", "No field has this name here.", "An expression, template or list names what the rows do not have.", "Correct the name; the hint lists the fields."),
    of("unknown-fragment", "No fragment has this name.", "There is nothing to put here.", "Correct the name, or include the file in which it stands."),
    of("unknown-function", "No function has this name.", "The expression cannot be computed.", "`millrace list functions` names all."),
    of("unknown-helper", "No helper has this name.", "The template cannot be rendered.", "`millrace list helpers` names all."),
    of("unknown-key", "No key has this name here.", "A misspelt key would silently do nothing.", "Correct it; `millrace explain <part>` shows the keys."),
    of("unknown-parameter", "A fragment has no such parameter.", "A misspelt one would silently do nothing.", "Correct the name; the hint lists the parameters."),
    of("unknown-part", "No part has this name.", "There is nothing to run.", "`millrace list` names all."),
    of("unknown-port", "The part has no such output.", "Nothing would ever come from it.", "Correct the name; the page of the part lists its ports."),
    of("unknown-store", "No store has this name.", "There is nothing to ask.", "Declare it under `stores:`."),
    of("unknown-time-zone", "No time zone has this name.", "Local times could not be computed.", "Use a name of the IANA database, like `Asia/Shanghai`."),
    of("unknown-type", "No type has this name.", "The field could not be converted.", "Types are string, bigint, double, decimal(p,s), boolean, timestamp, bytes, array, map, json."),
    of("unknown-value", "The key does not have this value.", "It is none of the words that it takes.", "Choose one that the hint names."),
    of("unquoted-comma", "A value inside `{ }` or `[ ]` has a comma in parentheses, and is not quoted.", "YAML ends the value at the comma: `decimal(18` and `2)` are two things.", "Put the whole value in quotes; `--fix` does."),
    of("unquoted-template", "A template is not quoted.", "YAML reads `{{` as the beginning of a map.", "Put it in double quotes."),
    of("unquoted-variable", "A variable inside `{ }` is not quoted.", "YAML reads `{` as the beginning of a map.", "Put it in double quotes: it still becomes a number or a boolean where one is wanted."),
    of("unread-output", "Nobody reads this output.", "Its rows are dropped, and counted.", "Give it a sink, or take the part out."),
    of("unsupported-expression", "This part of SQL is not supported.", "Expressions are scalar: no queries, no named arguments.", "Write it in another way; `millrace list functions` names what there is."),
    of("unused-allow", "A `# lint: allow(id)` allows nothing.", "The problem is gone, the id is misspelt, or it is an error, which cannot be allowed.", "Take it out, or correct the id."),
    of("unused-default", "No part of the topology has the type that defaults are written for.", "Somebody believes that they do something.", "Take them out, or correct the type."),
    of("unused-fragment", "Nothing uses a fragment of this file.", "It is not checked, and does nothing.", "Take it out, or use it."),
    of("unused-parameter", "A fragment never mentions one of its parameters.", "Its value would have no effect.", "Write `${name}` where it belongs, or take it out."),
    of("unused-store", "No part asks this store.", "It would only be opened.", "Take it out, or use it."),
    of("unused-variable", "Nothing mentions this variable.", "A `--set` without effect is a slip of the pen.", "Correct the name; keys are set by their path."),
    of("useless-columns", "`columns` has no effect here.", "The format does not have columns.", "Take it out."),
    of("useless-key", "A key has no effect beside another one.", "Somebody believes that it does.", "Keep one of them."),
    of("useless-keyby", "No part after a KeyBy goes by its key.", "It would be without effect.", "Take it out, or put the window behind it."),
    of("useless-template", "`template` has no effect here.", "Only `format: text` uses it.", "Take it out, or set the format."),
    of("watermark-on-retry", "A retry stream has a watermark.", "Retried rows take no part in event time.", "Take it out."),
    of("window-without-key", "The rows that come to a window have no key.", "A window gathers the rows of one key.", "Put `KeyBy` before it."),
    of("without-fallback", "A key is about the fallback store, and there is none.", "It would have no effect.", "Name one: `fallback: <store>`, or take the key out."),
    of("wrong-argument", "A helper cannot take this argument.", "It would fail for every row.", "`millrace explain <helper>` shows what it takes."),
    of("wrong-argument-count", "There are too many or too few arguments.", "The function could not be called.", "`millrace explain <function>` shows its signature."),
    of("wrong-type", "A value has another type than is needed here.", "It would fail for every row, or mean something else.", "Correct the value, or convert it with CAST; a condition must be a boolean."),
];
