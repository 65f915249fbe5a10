//! Rows of a table of a real HBase, each place with a prefix of its own.

use super::servers::{Server, run, script};
use super::suite::{KEYS, Maker, Place, conform, costs, measured};
use hbase_thrift::hbase::{HbaseSyncClient, THbaseSyncClient};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::TcpStream;
use std::process::Command;
use thrift::protocol::{TBinaryInputProtocol, TBinaryOutputProtocol};
use thrift::transport::{TBufferedReadTransport, TBufferedWriteTransport};

struct Rows {
    thrift: String,
    prefix: String,
}

impl Place for Rows {
    fn sink(&self) -> (&'static str, Value) {
        let key = format!("{}_{{{{k}}}}", self.prefix);
        let marker_row = format!("~{}", self.prefix);
        ("HBase", json!({"thrift": self.thrift, "table": "outbox", "key": key, "family": "d", "marker_row": marker_row}))
    }

    fn read(&self) -> Vec<(String, i64)> {
        let stream = TcpStream::connect(&self.thrift).unwrap();
        let input = TBinaryInputProtocol::new(TBufferedReadTransport::new(stream.try_clone().unwrap()), true);
        let output = TBinaryOutputProtocol::new(TBufferedWriteTransport::new(stream), true);
        let mut client = HbaseSyncClient::new(input, output);
        let keys: Vec<Vec<u8>> = (0..KEYS).map(|k| format!("{}_k{k}", self.prefix).into_bytes()).collect();
        let found = client.get_rows(b"outbox".to_vec(), keys, BTreeMap::new()).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        found
            .into_iter()
            .map(|row| {
                let columns = row.columns.unwrap();
                let cell = |name: &str| text(columns[name.as_bytes()].value.as_deref().unwrap());
                (cell("d:k"), cell("d:n").parse().unwrap())
            })
            .collect()
    }

    fn keyed(&self) -> bool {
        true
    }

    fn points(&self) -> &'static [&'static str] {
        &["txn-begun", "txn-sent", "txn-committed"]
    }
}

fn table() -> (Server, impl Fn(&str) -> Box<dyn Place>) {
    let server = Server::start("hbase.sh", 4);
    run(Command::new(script("hbase-table.sh")).arg(format!("127.0.0.1:{}", server.port + 1)).args(["outbox", "d"]));
    let thrift = server.address();
    (server, move |name: &str| Box::new(Rows { thrift: thrift.clone(), prefix: name.into() }) as Box<dyn Place>)
}

#[test]
#[ignore = "starts HBase"]
fn a_table() {
    let (_server, make) = table();
    conform(&make as Maker<'_>);
}

#[test]
#[ignore = "measures"]
fn cost() {
    if !measured() {
        return;
    }
    let (_server, make) = table();
    costs(&make as Maker<'_>);
}
