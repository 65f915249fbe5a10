//! The auction site of the Nexmark benchmark: of 50 events one is a person, three are auctions, 46 are bids
//! (P. Tucker, K. Tufte, V. Papadimos, D. Maier, "NEXMark: a benchmark for queries over data streams").

use super::World;
use super::random::Random;
use std::io::Write;

const EVENT: u64 = 20;
const ROUND: i64 = 50;
const AUCTIONS: i64 = 3;
const FIRST_ID: i64 = 1000;
/// Hot sellers, bidders and auctions are among this many of the latest.
const RECENT: u64 = 100;

/// Ids grow with time: round `n` brings the person `1000 + n` and the auctions `1000 + 3 n` and the two after it.
pub fn event(world: &World, i: i64, out: &mut Vec<u8>) {
    let mut r = world.random(EVENT, i);
    let time = jiff::Timestamp::from_microsecond(world.time(i, &mut r)).unwrap_or_default();
    let time = time.strftime("%Y-%m-%d %H:%M:%S.%3f");
    let (round, place) = (i.div_euclid(ROUND), i.rem_euclid(ROUND));
    let _ = match place {
        0 => write!(
            out,
            "{{\"event_type\":0,\"person\":{{\"id\":{},\"name\":\"{} {}\",\"emailAddress\":\"{}@{}.com\",\"creditCard\":\"{:04} {:04} {:04} {:04}\",\
             \"city\":\"{}\",\"state\":\"{}\",\"dateTime\":\"{time}\"}}}}",
            FIRST_ID + round,
            r.of(&["Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter"]),
            r.of(&["Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris"]),
            word(&mut r),
            word(&mut r),
            r.below(10_000),
            r.below(10_000),
            r.below(10_000),
            r.below(10_000),
            r.of(&["Phoenix", "Los Angeles", "San Francisco", "Boise", "Portland", "Bend", "Redmond", "Seattle", "Kent", "Cheyenne"]),
            r.of(&["AZ", "CA", "ID", "OR", "WA", "WY"]),
        ),
        1..=AUCTIONS => {
            let initial = price(&mut r);
            let expires = world.start + ((i + 1 + r.below(20_000) as i64) as f64 * world.step) as i64;
            let expires = jiff::Timestamp::from_microsecond(expires).unwrap_or_default().strftime("%Y-%m-%d %H:%M:%S.%3f").to_string();
            write!(
                out,
                "{{\"event_type\":1,\"auction\":{{\"id\":{},\"itemName\":\"{}\",\"description\":\"{} {}\",\"initialBid\":{initial},\"reserve\":{},\
                 \"dateTime\":\"{time}\",\"expires\":\"{expires}\",\"seller\":{},\"category\":{}}}}}",
                FIRST_ID + round * AUCTIONS + place - 1,
                word(&mut r),
                word(&mut r),
                word(&mut r),
                initial + price(&mut r),
                recent(&mut r, FIRST_ID + round),
                10 + r.below(5),
            )
        }
        _ => {
            let channel = r.of(&["Google", "Facebook", "Baidu", "Apple"]);
            write!(
                out,
                "{{\"event_type\":2,\"bid\":{{\"auction\":{},\"bidder\":{},\"price\":{},\"channel\":\"{channel}\",\
                 \"url\":\"https://www.nexmark.com/{}/item.htm?query=1&channel_id={}\",\"dateTime\":\"{time}\"}}}}",
                recent(&mut r, FIRST_ID + round * AUCTIONS + AUCTIONS - 1),
                recent(&mut r, FIRST_ID + round),
                price(&mut r),
                word(&mut r),
                r.below(10_000),
            )
        }
    };
}

/// Half of the time the hot one (the latest multiple of 100), else one of the latest hundred.
fn recent(r: &mut Random, latest: i64) -> i64 {
    let hot = latest - (latest - FIRST_ID) % RECENT as i64;
    let any = latest - r.below(RECENT.min((latest - FIRST_ID).max(0) as u64 + 1)) as i64;
    if r.below(2) == 0 { hot } else { any }
}

/// From 1 to 1,000,000, each order of magnitude as often.
fn price(r: &mut Random) -> u64 {
    10f64.powf(r.share() * 6.0) as u64
}

fn word(r: &mut Random) -> String {
    (0..4 + r.below(5)).map(|_| (b'a' + r.below(26) as u8) as char).collect()
}
