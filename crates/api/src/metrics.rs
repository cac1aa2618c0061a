//! Counters of requests in Prometheus' text form.

use crate::{Method, StatusCode};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

#[derive(Default)]
struct Series {
    count: u64,
    micros: u64,
}

type Key = (&'static str, String, &'static str, u16);

static REQUESTS: Mutex<BTreeMap<Key, Series>> = Mutex::new(BTreeMap::new());

/// Upper limit of distinct series: methods are the client's to choose.
const LARGEST: usize = 10_000;

pub(crate) fn request(service: &'static str, method: &Method, route: &'static str, status: StatusCode, took: Duration) {
    let mut all = REQUESTS.lock();
    let key = (service, method.as_str().to_string(), route, status.as_u16());
    if all.len() >= LARGEST && !all.contains_key(&key) {
        return;
    }
    let series = all.entry(key).or_default();
    series.count += 1;
    series.micros += took.as_micros() as u64;
}

/// All series, a line each.
pub fn render() -> String {
    let mut out = String::from("# TYPE ferrostack_requests_total counter\n# TYPE ferrostack_request_seconds_total counter\n");
    for ((service, method, route, status), series) in REQUESTS.lock().iter() {
        let method: String = method.chars().filter(char::is_ascii_alphanumeric).collect();
        let labels = format!("service=\"{service}\",method=\"{method}\",route=\"{route}\",status=\"{status}\"");
        let _ = writeln!(out, "ferrostack_requests_total{{{labels}}} {}", series.count);
        let _ = writeln!(out, "ferrostack_request_seconds_total{{{labels}}} {:.6}", series.micros as f64 / 1e6);
    }
    out
}
