use super::*;

#[test]
fn what_is_wrong_is_pointed_at() {
    let rows = [
        ("path", "a/<in:pk>/", "<in:pk>", "did you mean `<int:pk>`?"),
        ("path", "/a/<year:y>/", "<year:y>", "Django's own are"),
        ("path", "a/<int: pk>/", "<int: pk>", "<int:pk>"),
        ("path", "<int:1a>", "<int:1a>", "<int:pk>"),
        ("path", "<>", "<>", "<int:pk>"),
        ("path", "<a>/<int:a>", "<int:a>", "a name of its own"),
        ("path", "a/<int:pk", "<int:pk", "<int:pk>"),
        ("path", "a>/", ">", "<int:pk>"),
        ("path", "a/?q=1", "?q=1", "end the pattern"),
        ("regex", "^a(?=b)", "(?=", "without them"),
        ("regex", r"^(a)\1$", r"\1", "without them"),
        ("regex", "^a(b", "(", "re_path()"),
        ("regex", "^a{5,2}", "{5,2}", "re_path()"),
    ];
    for (kind, text, part, help) in rows {
        let wrong = match kind {
            "path" => Pattern::path(text),
            _ => Pattern::regex(text),
        }
        .unwrap_err();
        assert_eq!(text.get(wrong.at.clone()), Some(part), "{text}: {wrong:?}");
        assert!(wrong.help.contains(help), "{text}: {wrong:?}");
    }
}
