use super::*;

fn load(text: &str, sets: &[&str]) -> Result<(Config, Vec<Warning>), ConfigError> {
    let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
    Config::load(Some(("server.properties", text)), &sets)
}

#[test]
fn nothing_set_serves_localhost() {
    let (config, warnings) = Config::load(None, &[]).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(config.node_id, BrokerId(1));
    assert_eq!(config.log_dirs, [PathBuf::from("./corelane-data")]);
    let listener = Listener {
        name: "PLAINTEXT".to_owned(),
        protocol: SecurityProtocol::Plaintext,
        host: String::new(),
        port: 9092,
        advertised_host: "localhost".to_owned(),
        advertised_port: 9092,
    };
    assert_eq!(config.listeners, [listener]);
    assert_eq!(config.controller, Settings::default());
    assert_eq!(config.topic_defaults, TopicDefaults::default());
    assert_eq!(config.connections_max_idle_ms, Some(600_000));
}
