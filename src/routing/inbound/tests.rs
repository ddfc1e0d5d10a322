use super::*;

#[test]
fn a_path_is_decoded_as_django_does() {
    for (raw, seen) in [
        ("/orders/1/", "orders/1/"),
        ("//x", "/x"),
        ("/", ""),
        ("", ""),
        ("*", "*"),
        ("/caf%C3%A9", "café"),
        ("/caf%e9/%41", "caf%E9/A"),
        ("/a%2Fb", "a/b"),
        ("/100%", "100%"),
        ("/%zz", "%zz"),
    ] {
        assert_eq!(as_django_sees(raw), seen, "{raw}");
    }
}
