use std::collections::BTreeSet;
use std::path::Path;

use super::*;

#[test]
fn there_is_a_page_for_each_code_and_no_other() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/doctor/pages");
    let files: BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let codes: BTreeSet<String> = Code::ALL.iter().map(|code| format!("{code}.txt")).collect();
    assert_eq!(files, codes);
}

#[test]
fn a_page_has_its_codes_name_and_something_to_do_and_fits_a_terminal() {
    for code in Code::ALL {
        let page = page(*code);
        let first = format!("{code}  {}\n\n", code.title());
        assert!(page.starts_with(&first), "{code}: {page}");
        let todo = page
            .split_once("\nWhat to do\n\n")
            .map_or("", |(_, todo)| todo);
        assert!(todo.starts_with("- "), "{code}");
        assert!(page.ends_with('\n') && !page.ends_with("\n\n"), "{code}");
        let widest = page.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(100), "{code}: {widest:?}");
    }
}

#[test]
fn pages_name_only_codes_that_there_are() {
    let mut named = 0;
    for code in Code::ALL {
        for (at, _) in page(*code).match_indices("HOP") {
            let word: String = page(*code)[at..].chars().take(6).collect();
            if word.ends_with(|c: char| c.is_ascii_digit()) {
                named += 1;
                assert!(Code::parse(&word).is_some(), "{code} names {word}");
            }
        }
    }
    assert!(named > Code::ALL.len());
}

#[test]
fn every_reason_has_a_page_that_names_it() {
    for reason in Unlinked::ALL {
        let page = page(reason.code());
        assert!(page.contains(&format!("\n{reason}: ")), "{reason}:\n{page}");
        assert_eq!(find(reason.as_str()), Some(reason.code()));
    }
}

#[test]
fn a_code_is_found_by_name_digits_or_reason() {
    assert_eq!(find("hop312"), Some(Code::NoInbound));
    assert_eq!(find("312"), Some(Code::NoInbound));
    assert_eq!(find("no_inbound"), Some(Code::NoInbound));
    assert_eq!(find("inbound"), None);
    assert_eq!(list().lines().count(), Code::ALL.len());
}
