use super::*;

fn read(pairs: &[(&str, &str)]) -> Result<OtelEnv, Vec<String>> {
    OtelEnv::read(|name| {
        pairs
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| (*value).to_owned())
    })
}

#[test]
fn nothing_set_changes_nothing() {
    assert_eq!(read(&[]).unwrap(), OtelEnv::default());
}
