//! ClickHouse: a table that remembers inserts.

use super::servers::Server;
use super::suite::{Maker, Place, conform, costs, measured};
use serde_json::{Value, json};

struct Table {
    runtime: tokio::runtime::Runtime,
    client: clickhouse::Client,
    url: String,
    /// A database of its own, and with it markers of its own.
    database: String,
}

impl Table {
    fn new(server: &Server, name: &str) -> Table {
        let url = format!("http://{}", server.address());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let table = Table { runtime, client: clickhouse::Client::default().with_url(&url), url, database: name.replace('-', "_") };
        table.ask(&format!("CREATE DATABASE {}", table.database));
        table.ask(&format!(
            "CREATE TABLE {}.rows (k String, n Int64) ENGINE = MergeTree ORDER BY n SETTINGS non_replicated_deduplication_window = 100",
            table.database
        ));
        table
    }

    fn ask(&self, sql: &str) -> String {
        let answer = self.runtime.block_on(async { self.client.query_raw(sql).fetch_bytes("TabSeparated").unwrap().collect().await });
        String::from_utf8(answer.unwrap().to_vec()).unwrap()
    }
}

impl Place for Table {
    fn sink(&self) -> (&'static str, Value) {
        ("ClickHouse", json!({"url": self.url, "database": self.database, "table": "rows"}))
    }

    fn read(&self) -> Vec<(String, i64)> {
        let row = |line: &str| line.split_once('\t').map(|(k, n)| (k.to_string(), n.parse().unwrap())).unwrap();
        self.ask(&format!("SELECT k, n FROM {}.rows", self.database)).lines().map(row).collect()
    }

    fn ordered(&self) -> bool {
        false
    }

    fn points(&self) -> &'static [&'static str] {
        &["txn-begun", "txn-sent", "txn-committed"]
    }
}

#[test]
#[ignore = "needs ClickHouse's engine"]
fn a_table_that_remembers() {
    let server = Server::start("clickhouse.sh", 1);
    conform(&(|name: &str| Box::new(Table::new(&server, name)) as Box<dyn Place>) as Maker<'_>);
}

#[test]
#[ignore = "measures"]
fn cost() {
    if !measured() {
        return;
    }
    let server = Server::start("clickhouse.sh", 1);
    costs(&(|name: &str| Box::new(Table::new(&server, name)) as Box<dyn Place>) as Maker<'_>);
}
