//! Redis: keys that hold the last row, and lists and streams that hold every row.

use super::servers::Server;
use super::suite::{Maker, Place, conform, costs, measured};
use redis::Commands;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::HashMap;

struct Keys {
    client: RefCell<redis::Connection>,
    url: String,
    prefix: String,
    mode: &'static str,
}

impl Place for Keys {
    fn sink(&self) -> (&'static str, Value) {
        ("Redis", json!({"url": self.url, "key": format!("{}:{{{{k}}}}", self.prefix), "mode": self.mode, "columns": ["k", "n"]}))
    }

    fn read(&self) -> Vec<(String, i64)> {
        let mut client = self.client.borrow_mut();
        let keys: Vec<String> = client.keys(format!("{}:*", self.prefix)).unwrap();
        let row = |text: String| {
            let row: Value = serde_json::from_str(&text).unwrap();
            (row["k"].as_str().unwrap().to_string(), row["n"].as_i64().unwrap())
        };
        let of_fields = |fields: HashMap<String, String>| (fields["k"].clone(), fields["n"].parse().unwrap());
        let mut rows = vec![];
        for key in keys {
            match self.mode {
                "set" => rows.push(row(client.get(&key).unwrap())),
                "hset" => rows.push(of_fields(client.hgetall(&key).unwrap())),
                "rpush" => rows.extend(client.lrange::<_, Vec<String>>(&key, 0, -1).unwrap().into_iter().map(row)),
                _ => {
                    let entries: Vec<(String, HashMap<String, String>)> =
                        redis::cmd("XRANGE").arg(&key).arg("-").arg("+").query(&mut *client).unwrap();
                    rows.extend(entries.into_iter().map(|(_, fields)| of_fields(fields)));
                }
            }
        }
        rows
    }

    fn keyed(&self) -> bool {
        matches!(self.mode, "set" | "hset")
    }

    fn points(&self) -> &'static [&'static str] {
        &["txn-begun", "txn-committed"]
    }
}

/// The suite's writers have the same names in every place: their markers go with the place before it.
fn places<'a>(server: &'a Server, mode: &'static str) -> impl Fn(&str) -> Box<dyn Place> + 'a {
    move |name| {
        let url = format!("redis://{}", server.address());
        let mut client = redis::Client::open(url.as_str()).unwrap().get_connection().unwrap();
        for marker in client.keys::<_, Vec<String>>("millrace:outbox:*").unwrap() {
            client.del::<_, ()>(marker).unwrap();
        }
        Box::new(Keys { client: client.into(), url, prefix: format!("{mode}-{name}"), mode })
    }
}

#[test]
#[ignore = "needs redis-server"]
fn every_mode() {
    let server = Server::start("redis.sh", 1);
    for mode in ["rpush", "xadd", "set", "hset"] {
        println!("{mode}");
        conform(&places(&server, mode) as Maker<'_>);
    }
}

#[test]
#[ignore = "measures"]
fn cost() {
    if !measured() {
        return;
    }
    let server = Server::start("redis.sh", 1);
    costs(&places(&server, "hset") as Maker<'_>);
}
