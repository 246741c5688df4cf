//! The HTML page of reports, opened in Chromium: every figure on it is the one in the JSON, every line ends where its
//! data ends, and nothing that a report says becomes markup.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const TOOL: &str = env!("CARGO_BIN_EXE_corelane-perf");
/// Ends the script it stands in and becomes an element, if it is taken for anything but text.
const LABEL: &str = "</script><b>\"& <!--";
/// Longer than a browser needs even on a busy machine.
const BROWSER_LIMIT: Duration = Duration::from_secs(120);

const ROLE_FIELDS: [&str; 9] = [
    "records_per_second",
    "asked_rate",
    "payload_bytes_per_second",
    "latency.p50",
    "latency.p90",
    "latency.p99",
    "latency.p999",
    "latency.p9999",
    "latency.max",
];
const RUN_FIELDS: [&str; 10] = [
    "broker.cpu_micros_per_record",
    "broker.cpu_seconds_per_gigabyte",
    "broker.cores",
    "broker.resident_bytes_max",
    "broker.written_bytes",
    "broker.context_switches_per_record",
    "generator.cores",
    "generator.lateness_p99",
    "generator.not_sent",
    "steal_percent",
];
/// The one figure of the page that is made of others.
const WRITTEN_PER_PAYLOAD_BYTE: &str = "written_per_payload_byte";

/// The null broker, for as long as this lives.
struct NullBroker {
    process: Child,
    address: String,
}

impl NullBroker {
    fn start() -> NullBroker {
        let mut command = Command::new(TOOL);
        command.args(["null-broker", "--listen", "127.0.0.1:0"]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("the tool starts");
        let mut line = String::new();
        let out = process.stdout.take().expect("stdout is piped");
        let mut broker = NullBroker { process, address: String::new() };
        BufReader::new(out).read_line(&mut line).expect("stdout can be read");
        let address = line.strip_prefix("null broker at ").and_then(|rest| rest.split(": ").next());
        broker.address = address.unwrap_or_else(|| panic!("no address in {line:?}")).to_owned();
        broker
    }
}

impl Drop for NullBroker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An empty folder of one test.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("html_report").join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("the folder for tests is writable");
    folder
}

fn tool(arguments: &[&str]) -> Output {
    Command::new(TOOL).args(arguments).stdin(Stdio::null()).output().expect("the tool starts")
}

fn tool_that_succeeds(arguments: &[&str]) {
    let output = tool(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A short run at a fixed rate, and the path of its report.
fn produce(broker: &NullBroker, label: &str, path: &Path) {
    let path = path.to_str().expect("a path in UTF-8");
    let arguments = ["produce", "-b", &broker.address, "-r", "2000", "-d", "2s", "--warm-up", "1s", "-q"];
    tool_that_succeeds(&[&arguments[..], &["--label", label, "--json", path]].concat());
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("the report is there")).expect("the report is JSON")
}

/// Puts the reports on a page and opens it.
fn page_of(folder: &Path, reports: &[&Path]) -> Page {
    let page = folder.join("page.html");
    let mut arguments = vec!["report"];
    arguments.extend(reports.iter().map(|path| path.to_str().expect("a path in UTF-8")));
    arguments.extend(["--html", page.to_str().expect("a path in UTF-8")]);
    tool_that_succeeds(&arguments);
    Page::open(&page, folder)
}

// ---- the browser ----

fn is_there(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Chromium's program, installed from the system's packages if it is missing. Needs Debian's tools and root or sudo.
fn chromium() -> &'static str {
    static PROGRAM: LazyLock<&str> = LazyLock::new(|| {
        let names = ["chromium", "chromium-browser", "google-chrome"];
        let find = || names.into_iter().find(|name| is_there(name));
        if let Some(found) = find() {
            return found;
        }
        assert!(is_there("apt-get"), "`chromium` is missing: install it with this system's package manager");
        let is_root = rustix::process::geteuid().is_root();
        assert!(is_root || is_there("sudo"), "`chromium` is missing: run `apt-get install chromium` as root");
        for arguments in [&["update"][..], &["install", "-y", "--no-install-recommends", "chromium"]] {
            let mut command = Command::new(if is_root { "apt-get" } else { "sudo" });
            if !is_root {
                command.args(["-n", "apt-get"]);
            }
            let output = command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").output();
            let output = output.expect("apt-get starts");
            assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        find().expect("chromium is installed, but does not run")
    });
    *PROGRAM
}

/// The document as it stands when the page's scripts have run.
fn dump_dom(page: &Path, folder: &Path) -> String {
    let out = folder.join("dom.html");
    let mut command = Command::new(chromium());
    command.args([
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--window-size=1280,1000",
    ]);
    // a profile of its own: browsers that share one hand their pages to the first
    command.arg(format!("--user-data-dir={}", folder.join("profile").display()));
    command.args(["--virtual-time-budget=5000", "--dump-dom"]).arg(format!("file://{}", page.display()));
    let file = |path: &Path| File::create(path).expect("the folder for tests is writable");
    command.stdin(Stdio::null()).stdout(file(&out)).stderr(file(&folder.join("chromium.txt")));
    let mut browser = command.spawn().expect("chromium starts");
    let deadline = Instant::now() + BROWSER_LIMIT;
    let status = loop {
        if let Some(status) = browser.try_wait().expect("a child can be waited for") {
            break status;
        }
        if Instant::now() > deadline {
            let _ = browser.kill();
            let _ = browser.wait();
            panic!("chromium has not ended after {BROWSER_LIMIT:?}");
        }
        thread::sleep(Duration::from_millis(20));
    };
    let said = || std::fs::read_to_string(folder.join("chromium.txt")).unwrap_or_default();
    assert!(status.success(), "chromium ended with {status}: {}", said());
    std::fs::read_to_string(out).expect("chromium writes UTF-8")
}

// ---- the document ----

/// An element's start tag.
#[derive(Debug)]
struct Element {
    name: String,
    attributes: BTreeMap<String, String>,
}

impl Element {
    fn get(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).map(String::as_str)
    }

    fn number(&self, name: &str) -> f64 {
        let text = self.get(name).unwrap_or_else(|| panic!("no {name} on {self:?}"));
        text.parse().unwrap_or_else(|_| panic!("{name} of {self:?} is not a number"))
    }
}

struct Page {
    elements: Vec<Element>,
    /// Without that of scripts and styles.
    text: String,
}

impl Page {
    fn open(page: &Path, folder: &Path) -> Page {
        let page = Page::parse(&dump_dom(page, folder));
        assert_eq!(page.elements[0].name, "html");
        assert_eq!(page.elements[0].get("data-state"), Some("drawn"), "{}", page.text);
        page
    }

    /// Reads what a browser writes, which is regular: attributes in double quotes, everything else escaped.
    fn parse(dom: &str) -> Page {
        let mut page = Page { elements: Vec::new(), text: String::new() };
        let mut rest = dom;
        while let Some((text, tag)) = rest.split_once('<') {
            page.text += &unescape(text);
            rest = tag;
            if rest.starts_with(['/', '!']) {
                rest = rest.split_once('>').expect("a tag ends").1;
                continue;
            }
            let end = rest.find([' ', '>']).expect("a tag ends");
            let mut element = Element { name: rest[..end].to_owned(), attributes: BTreeMap::new() };
            rest = &rest[end..];
            while let Some(attribute) = rest.strip_prefix(' ') {
                let (name, value) = attribute.split_once("=\"").expect("an attribute has a value");
                let (value, after) = value.split_once('"').expect("a value ends");
                element.attributes.insert(name.to_owned(), unescape(value));
                rest = after;
            }
            rest = rest.strip_prefix('>').expect("a tag ends");
            if ["script", "style"].contains(&element.name.as_str()) {
                rest = rest.split_once(&format!("</{}>", element.name)).expect("the element ends").1;
            }
            page.elements.push(element);
        }
        page.text += &unescape(rest);
        page
    }

    fn with<'a>(&'a self, attribute: &'a str, value: &'a str) -> impl Iterator<Item = &'a Element> {
        self.elements.iter().filter(move |element| element.get(attribute) == Some(value))
    }
}

fn unescape(text: &str) -> String {
    let named = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&nbsp;", "\u{a0}"), ("&amp;", "&")];
    named.into_iter().fold(text.to_owned(), |text, (name, character)| text.replace(name, character))
}

// ---- checks ----

fn role_of<'a>(report: &'a Value, name: &str) -> &'a Value {
    let roles = report["roles"].as_array().expect("roles are a list");
    roles.iter().find(|role| role["role"] == name).unwrap_or_else(|| panic!("no role {name:?}"))
}

/// What the JSON says at a dotted path; `None` for null and for what is not there.
fn figure(object: &Value, field: &str) -> Option<f64> {
    field.split('.').fold(object, |part, name| &part[name]).as_f64()
}

fn written_per_payload_byte(report: &Value) -> Option<f64> {
    let payload =
        figure(&report["roles"][0], "payload_bytes_per_second")? * figure(report, "measured_seconds")?;
    Some(figure(report, "broker.written_bytes")? / payload)
}

/// Every figure of the summary is the JSON's, and none is left out.
fn check_figures(page: &Page, reports: &[Value]) {
    let mut found = BTreeSet::new();
    for cell in page.elements.iter().filter(|element| element.get("data-field").is_some()) {
        let run = cell.number("data-run") as usize;
        let role = cell.get("data-role").expect("a cell tells its role");
        let field = cell.get("data-field").expect("it was looked for");
        let object = if role.is_empty() { &reports[run] } else { role_of(&reports[run], role) };
        let expect = if field == WRITTEN_PER_PAYLOAD_BYTE {
            written_per_payload_byte(object)
        } else {
            figure(object, field)
        };
        let value = cell.get("data-value").map(|_| cell.number("data-value"));
        assert_eq!(value, expect, "{field} of run {run}, role {role:?}");
        assert!(found.insert((run, role.to_owned(), field.to_owned())), "{cell:?} stands there twice");
    }
    let mut expect = BTreeSet::new();
    for (run, report) in reports.iter().enumerate() {
        let run_fields = RUN_FIELDS.iter().chain([&WRITTEN_PER_PAYLOAD_BYTE]);
        expect.extend(run_fields.map(|field| (run, String::new(), (*field).to_owned())));
        for role in report["roles"].as_array().expect("roles are a list") {
            let role = role["role"].as_str().expect("a role has a name");
            expect.extend(ROLE_FIELDS.iter().map(|field| (run, role.to_owned(), (*field).to_owned())));
        }
    }
    assert_eq!(found, expect);
    let values = page.elements.iter().filter(|element| element.get("data-value").is_some()).count();
    assert!(values >= reports.len() * ROLE_FIELDS.len(), "only {values} figures");
}

/// One line for each role with samples; it has the points that so many samples carry and ends at the maximum.
fn check_percentiles(page: &Page, reports: &[Value]) {
    let lines: Vec<&Element> = page.with("data-plot", "percentiles").collect();
    let mut expect = 0;
    for (run, report) in reports.iter().enumerate() {
        for role in report["roles"].as_array().expect("roles are a list") {
            let latency = &role["latency"];
            let count = figure(latency, "count").expect("a count");
            if count == 0.0 {
                continue;
            }
            expect += 1;
            let is_its = |line: &&&Element| {
                line.number("data-run") as usize == run && line.get("data-role") == role["role"].as_str()
            };
            let line =
                lines.iter().find(is_its).unwrap_or_else(|| panic!("no line of run {run}: {}", role["role"]));
            let curve = latency["curve"].as_array().expect("a curve");
            let within = curve.iter().filter(|point| point[0].as_f64() <= Some(1.0 - 1.0 / count)).count();
            assert!(within < curve.len(), "the curve goes to 1");
            assert_eq!(line.number("data-points") as usize, within + 1);
            assert_eq!(Some(line.number("data-max")), latency["max"].as_f64());
            let places = line.get("d").expect("a path has points").split(['M', 'L']).count() - 1;
            assert_eq!(places, within + 1, "what is drawn is what is told");
        }
    }
    assert_eq!(lines.len(), expect);
}

/// All whole seconds of produce are drawn, those with nothing as zero.
fn check_throughput(page: &Page, run: usize, report: &Value) {
    let line = page.with("data-plot", "throughput").find(|line| line.number("data-run") as usize == run);
    let line = line.unwrap_or_else(|| panic!("no throughput of run {run}"));
    let end = figure(report, "measured_seconds").expect("a length").floor() as i64;
    let begin = -(figure(report, "warm_up_seconds").expect("a length") as i64);
    let series = role_of(report, "produce")["series"].as_array().expect("a series");
    let counted =
        series.iter().filter(|second| second["records"] != 0 && second["second"].as_i64() < Some(end));
    let zeros = (end - begin) as usize - counted.count();
    assert_eq!(line.number("data-points") as i64, end - begin);
    assert_eq!(line.number("data-zeros") as usize, zeros);
}

#[test]
fn the_page_shows_the_figures_of_its_runs() {
    let folder = folder("figures");
    let broker = NullBroker::start();
    let paths = [folder.join("a.json"), folder.join("b.json")];
    produce(&broker, LABEL, &paths[0]);
    produce(&broker, &format!("second {LABEL}"), &paths[1]);
    drop(broker);
    let reports = [read(&paths[0]), read(&paths[1])];

    let page = page_of(&folder, &[&paths[0], &paths[1]]);
    check_figures(&page, &reports);
    check_percentiles(&page, &reports);
    for (run, report) in reports.iter().enumerate() {
        check_throughput(&page, run, report);
        assert_eq!(page.with("data-noisy", &run.to_string()).count() == 1, report["is_noisy"] == true);
    }
    assert!(page.text.contains(LABEL) && page.text.contains(&format!("second {LABEL}")), "{}", page.text);
    assert!(!page.elements.iter().any(|element| element.name == "b"), "the label became an element");

    let holed = folder.join("holed.json");
    std::fs::write(&holed, with_holes(&reports[0]).to_string()).expect("the folder for tests is writable");
    let nothing = folder.join("nothing.json");
    std::fs::write(&nothing, with_nothing(&reports[1]).to_string())
        .expect("the folder for tests is writable");
    let reports = [read(&holed), read(&nothing), reports[1].clone()];
    let page = page_of(&folder, &[&holed, &nothing, &paths[1]]);
    check_figures(&page, &reports);
    check_percentiles(&page, &reports);
    check_throughput(&page, 0, &reports[0]);
    for run in ["0", "1"] {
        assert_eq!(page.with("data-noisy", run).count(), 1, "a run that is too noisy says so");
    }
    for said in [
        "NOT_ENOUGH_REPLICAS: 7 records",
        "<i>believe</i> nothing",
        "nothing was measured",
        "<img src=x>",
        "Workload <u>idle</u>",
    ] {
        assert!(page.text.contains(said), "{said:?} is not in {}", page.text);
    }
    assert!(!page.elements.iter().any(|element| ["i", "img", "u"].contains(&element.name.as_str())));
    assert_eq!(page.with("data-within", "true").count(), 1);
    assert_eq!(page.with("data-within", "false").count(), 2);
}

/// The report of a run in which a second passed without a record, nobody saw the broker and one role had no samples.
fn with_holes(report: &Value) -> Value {
    let mut report = report.clone();
    report["broker"] = Value::Null;
    report["is_noisy"] = json!(true);
    report["errors"] = json!({ "NOT_ENOUGH_REPLICAS": 7 });
    report["warnings"] = json!(["<i>believe</i> nothing"]);
    report["settings"]["<img src=x>"] = json!("<img src=x>");
    report["search"] = json!([
        { "rate": 1000.0, "reached": 1000.0, "p99": 900.0, "is_within": true },
        { "rate": 2000.0, "reached": 1990.0, "p99": 20_000.0, "is_within": false },
        { "rate": 1500.0, "reached": 300.0, "p99": 1000.0, "is_within": false },
    ]);
    let series = report["roles"][0]["series"].as_array_mut().expect("a series");
    series.retain(|second| second["second"] != 1);
    let mut silent = report["roles"][0].clone();
    silent["role"] = json!("end-to-end");
    silent["series"] = json!([]);
    for (_, value) in silent["latency"].as_object_mut().expect("latencies") {
        *value = if value.is_array() { json!([]) } else { json!(0) };
    }
    report["roles"].as_array_mut().expect("roles are a list").push(silent);
    report
}

/// The report of a run that did nothing at all.
fn with_nothing(report: &Value) -> Value {
    let mut report = report.clone();
    report["workload"] = json!("<u>idle</u>");
    report["roles"] = json!([]);
    report["broker"] = Value::Null;
    report["is_noisy"] = json!(true);
    report["measured_seconds"] = json!(1e-9);
    report["warm_up_seconds"] = json!(0);
    report
}

#[test]
fn a_page_without_runs_says_so() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/report/page.html");
    let page = Page::open(&page, &folder("empty"));
    assert!(page.text.contains("There are no runs in this page."));
}

#[test]
fn what_is_no_report_is_refused() {
    let folder = folder("refused");
    let html = folder.join("page.html");
    let html = html.to_str().expect("a path in UTF-8");
    let check = |name: &str, content: Option<&str>, expect: &str| {
        let path = folder.join(name);
        if let Some(content) = content {
            std::fs::write(&path, content).expect("the folder for tests is writable");
        }
        let output = tool(&["report", path.to_str().expect("a path in UTF-8"), "--html", html]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.starts_with("error: ") && said.contains(name) && said.contains(expect), "{said}");
        assert!(!Path::new(html).exists(), "a page of nothing");
    };
    check("missing.json", None, "reading");
    check("empty.json", Some(""), "is not a report");
    check("cut.json", Some("{\"format\": 1, \"label\": \"a"), "is not a report");
    check("list.json", Some("[]"), "is not a report");
    let output = tool(&["report", "--html", html]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("<FILES>"), "{said}");
}
