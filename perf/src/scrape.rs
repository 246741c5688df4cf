//! A broker's own metrics, in Prometheus' text format.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

const TIMEOUT: Duration = Duration::from_secs(2);

/// Every metric with its value, labels added up; buckets of histograms are left out.
///
/// # Errors
/// Nobody there, or no metrics.
pub fn scrape(address: &str) -> Result<BTreeMap<String, f64>> {
    let socket = address.to_socket_addrs()?.next().context("the name has no address")?;
    let mut stream = TcpStream::connect_timeout(&socket, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    write!(stream, "GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(64 << 20).read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("not an HTTP answer")?;
    ensure!(head.contains(" 200 "), "{} answered {}", address, head.lines().next().unwrap_or_default());
    Ok(parse(body))
}

fn parse(body: &str) -> BTreeMap<String, f64> {
    let mut metrics = BTreeMap::new();
    for line in body.lines().filter(|line| !line.starts_with('#')) {
        // a label's value may hold spaces: the value is what follows the last one
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let name = series.split('{').next().unwrap_or(series);
        let Ok(value) = value.parse::<f64>() else { continue };
        if !name.ends_with("_bucket") {
            *metrics.entry(name.to_owned()).or_insert(0.0) += value;
        }
    }
    metrics
}

/// What has grown: counters only, by Prometheus' endings.
#[must_use]
pub fn growth(before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    let is_counter = |name: &str| ["_total", "_sum", "_count"].iter().any(|end| name.ends_with(end));
    let grown = after
        .iter()
        .filter(|(name, _)| is_counter(name))
        .map(|(name, value)| (name.clone(), value - before.get(name).copied().unwrap_or(0.0)));
    grown.filter(|(_, growth)| *growth > 0.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_read_and_their_growth_is_told() {
        let text = "# HELP a_total things\na_total{shard=\"0\"} 5\na_total{shard=\"a b\"} 7\nb_bytes 3\nh_bucket{le=\"1\"} 9\nh_count 4\nbroken\n";
        let before = parse(text);
        assert_eq!(
            before,
            [("a_total", 12.0), ("b_bytes", 3.0), ("h_count", 4.0)].map(|(k, v)| (k.to_owned(), v)).into()
        );
        let after = parse(&text.replace(" 7", " 9").replace("b_bytes 3", "b_bytes 30"));
        assert_eq!(growth(&before, &after), [("a_total".to_owned(), 2.0)].into());
    }
}
