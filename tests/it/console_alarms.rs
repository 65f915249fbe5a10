//! Alarms that reach a webhook: a real HTTP server of this machine.

use crate::console::{Api, Console, Http, JOB, enter};
use crate::supervise::until;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

/// What a server has heard, and how it is to answer: with 200 once nothing is left here, and with 0 never.
#[derive(Clone, Default)]
struct Hook {
    heard: Arc<Mutex<Vec<(u16, Value)>>>,
    answers: Arc<Mutex<VecDeque<u16>>>,
    /// Those that wait for an answer.
    held: Arc<Mutex<Vec<std::net::TcpStream>>>,
}

impl Hook {
    /// Its address.
    fn start(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let hook = self.clone();
        std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| _ = hook.answer(stream)));
        format!("http://{address}/hook")
    }

    fn answer(&self, mut stream: std::net::TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let (mut length, mut line) = (0, String::new());
        while reader.read_line(&mut line)? > 2 {
            length = line.to_ascii_lowercase().strip_prefix("content-length:").and_then(|n| n.trim().parse().ok()).unwrap_or(length);
            line.clear();
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let status = self.answers.lock().expect("whole").pop_front().unwrap_or(200);
        self.heard.lock().expect("whole").push((status, serde_json::from_slice(&body).unwrap_or_default()));
        if status == 0 {
            self.held.lock().expect("whole").push(stream);
            return Ok(());
        }
        write!(stream, "HTTP/1.1 {status} X\r\nlocation: http://127.0.0.1:9/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    }

    fn heard(&self) -> Vec<(u16, Value)> {
        self.heard.lock().expect("whole").clone()
    }

    /// Waits for so many calls, and says what they were.
    fn calls(&self, n: usize) -> Vec<(u16, Value)> {
        until(&format!("{n} calls: {:?}", self.heard()), || Some(self.heard()).filter(|h| h.len() >= n))
    }
}

fn submit(api: &Api, config: &str, rules: &Value, webhook: &str) {
    let settings = json!({"config": config, "alarms": rules, "receivers": {"mails": [], "webhook": webhook}});
    let (status, answer) = api.ask("PUT", "/tasks/job", &json!({"settings": settings}));
    assert!(status < 300, "{answer}");
}

fn texts(body: &Value) -> Vec<(bool, String)> {
    let one = |e: &Value| (e["resolved"] == true, e["text"].as_str().unwrap_or_default().split(':').next().unwrap_or_default().to_string());
    let mut all: Vec<_> = body["events"].as_array().expect("events").iter().map(one).collect();
    all.sort();
    all
}

#[test]
fn a_webhook_is_told_once_of_an_alarm_and_of_its_end() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let hook = Hook::default();
    let url = hook.start();
    let address = url.trim_start_matches("http://").trim_end_matches("/hook").to_string();
    let mut console = Console::with(&tmp.path().join("data"), &["--allow-address", &address]);
    let api = enter(&console);
    let rules = json!([{"what": "metric", "metric": "millrace_uptime_seconds", "bound": 0.0}, {"what": "restarts", "bound": -1.0}]);
    let (one, two) = ("metric millrace_uptime_seconds > 0".to_string(), "restarts > -1".to_string());
    // One that is not allowed, and one that is no web address, are not taken.
    for (wrong, why) in [("http://127.0.0.1:9/x", "no address"), ("http://169.254.169.254/", "no address"), ("file:///etc/passwd", "http")]
    {
        let settings = json!({"config": JOB, "receivers": {"mails": [], "webhook": wrong}});
        let (status, answer) = api.ask("PUT", "/tasks/job", &json!({"settings": settings}));
        assert!(status == 422 && answer.to_string().contains(why), "{wrong}: {answer}");
    }
    submit(&api, JOB, &rules, &url);
    // A server that is not well is called again; a redirect is not followed.
    hook.answers.lock().expect("whole").extend([503, 307]);
    api.start("job");
    let calls = hook.calls(3);
    assert_eq!(calls.iter().map(|c| c.0).collect::<Vec<_>>(), [503, 307, 200]);
    assert!(calls.iter().all(|c| c.1 == calls[0].1), "the same thing each time");
    let body = &calls[2].1;
    assert_eq!(texts(body), [(false, one.clone()), (false, two.clone())], "both in one message");
    assert_eq!((&body["task"], &body["link"]), (&json!("job"), &json!(format!("{}/tasks/1", console.url))));
    // Somebody has seen one of them: silence. The job ends, and who was told is told of that.
    let http = Http::new();
    let silence = |rule: &str, hours: &str| {
        let rule = rule.replace(' ', "+").replace('>', "%3E");
        let body = format!("_csrf={}&rule={rule}&hours={hours}", api.session.1);
        let request = http.1.post(format!("{}/tasks/1/alarms/silence", console.url)).header("origin", &console.url);
        let request = request.header("cookie", &api.session.0).header("content-type", "application/x-www-form-urlencoded").body(body);
        assert_eq!(http.send(request).0, 303);
    };
    silence(&two, "1");
    assert_eq!(api.stop("job", false)["result"], "done");
    api.reaches("job", "stopped");
    assert_eq!(texts(&hook.calls(4)[3].1), [(true, one.clone()), (true, two.clone())], "the end of what was told");
    // It begins again: of the silenced rule nobody hears its beginning.
    api.start("job");
    assert_eq!(texts(&hook.calls(5)[4].1), [(false, one.clone())]);
    // When the silence ends while it still holds, they do.
    silence(&two, "0");
    assert_eq!(texts(&hook.calls(6)[5].1), [(false, two.clone())]);
    assert_eq!(api.stop("job", false)["result"], "done");
    assert_eq!(texts(&hook.calls(7)[6].1), [(true, one.clone()), (true, two.clone())]);
    // A receiver that stays ill is given up, and the log of operations says so.
    hook.answers.lock().expect("whole").extend([500; 3]);
    api.start("job");
    let calls = hook.calls(10);
    assert_eq!(texts(&calls[9].1), [(false, one), (false, two)]);
    let page = until("what is told of it", || {
        let request = http.1.get(format!("{}/operations", console.url)).header("cookie", &api.session.0);
        Some(http.send(request).2).filter(|page| page.contains("tell-alarm"))
    });
    assert!(page.contains("the webhook answers 500") && !page.contains("/hook"), "{page}");
    // A console that begins anew does not tell again what was told.
    console.kill();
    console = Console::with(&tmp.path().join("data"), &["--allow-address", &address]);
    let api = api.at(&console);
    until("the job's figures", || api.task("job")["figures"]["records_in"].as_f64().filter(|r| *r > 0.0));
    assert_eq!(api.stop("job", false)["result"], "done");
    let calls = hook.calls(11);
    assert!(calls.len() == 11 && texts(&calls[10].1).iter().all(|t| t.0), "{calls:?}");
    // No two events of what was taken have the same number, and each has one.
    let ids = |c: &(u16, Value)| c.1["events"].as_array().expect("events").iter().filter_map(|e| e["id"].as_i64()).collect::<Vec<_>>();
    let mut all: Vec<i64> = calls.iter().filter(|c| c.0 == 200).flat_map(ids).collect();
    let count = all.len();
    all.sort();
    all.dedup();
    assert!(all.len() == count && all.iter().all(|id| *id > 0), "{calls:?}");
    console.kill();
}

/// Whether the receiver has it is known to nobody then: it is told again, and by the numbers the receiver knows.
#[test]
fn what_a_console_was_telling_when_it_was_killed_is_told_by_the_next_with_the_same_number() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let hook = Hook::default();
    let url = hook.start();
    let address = url.trim_start_matches("http://").trim_end_matches("/hook").to_string();
    let data = tmp.path().join("data");
    let mut console = Console::with(&data, &["--allow-address", &address]);
    let api = enter(&console);
    submit(&api, JOB, &json!([{"what": "restarts", "bound": -1.0}]), &url);
    hook.answers.lock().expect("whole").push_back(0);
    api.start("job");
    let first = hook.calls(1)[0].1["events"].clone();
    console.kill();
    console = Console::with(&data, &["--allow-address", &address]);
    let api = api.at(&console);
    hook.calls(2);
    // A rule that is taken away has ceased for those who were told.
    submit(&api, JOB, &json!([]), &url);
    let ended = until("its end", || hook.heard().into_iter().position(|c| texts(&c.1)[0].0));
    let heard = hook.heard();
    assert!(heard[..ended].iter().all(|c| c.1["events"] == first), "{heard:?}");
    assert_eq!((texts(&heard[ended].1), heard.len()), (vec![(true, "restarts > -1".into())], ended + 1));
    assert_eq!(api.stop("job", false)["result"], "done");
    console.kill();
}
