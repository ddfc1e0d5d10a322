use super::*;

#[test]
fn an_empty_file_is_the_default() {
    for text in ["", "# nothing\n", "{}", "inbound:\noutbound:\n"] {
        let config = Config::parse(&Source::new("f", text)).unwrap();
        assert_eq!(config, Config::default(), "{text:?}");
    }
}
