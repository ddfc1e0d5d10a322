//! Tables of bytes as text: blocks of a name, what must come of it, and lines. `http1.txt` says how they are written.

/// One block, its bytes not yet expanded.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) name: String,
    /// What follows each `-> `.
    pub(crate) wanted: Vec<String>,
    pub(crate) text: String,
}

/// The blocks of a file.
pub(crate) fn read(file: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for line in file.lines() {
        if let Some(name) = line.strip_prefix("= ") {
            blocks.push(Block {
                name: name.to_owned(),
                wanted: Vec::new(),
                text: String::new(),
            });
            continue;
        }
        let Some(block) = blocks.last_mut() else {
            continue;
        };
        if line.starts_with('#') {
            continue;
        }
        match line.strip_prefix("-> ") {
            Some(wanted) => block.wanted.push(wanted.to_owned()),
            None => match line.strip_suffix('\\') {
                Some(line) if !line.ends_with('\\') => block.text.push_str(line),
                _ => block.text.push_str(&format!("{line}\\r\\n")),
            },
        }
    }
    blocks
}

/// Placeholders and escapes, to bytes.
pub(crate) fn expand(text: &str, row: &str, app: &str) -> Vec<u8> {
    let mut text = text.replace("{row}", row).replace("{app}", app);
    while let Some(at) = text.find("{x*").or(text.find("{fields*")) {
        let end = at + text[at..].find('}').unwrap();
        let (what, count) = text[at + 1..end].split_once('*').unwrap();
        let count: usize = count.parse().unwrap();
        let many = match what {
            "x" => "x".repeat(count),
            _ => (0..count).map(|n| format!("X-{n}: {n}\\r\\n")).collect(),
        };
        text.replace_range(at..=end, &many);
    }
    let (mut bytes, mut rest) = (Vec::new(), text.chars());
    while let Some(character) = rest.next() {
        let byte = match character {
            '\\' => match rest.next().unwrap() {
                'r' => b'\r',
                'n' => b'\n',
                't' => b'\t',
                '0' => 0,
                '\\' => b'\\',
                'x' => {
                    let digits: String = rest.by_ref().take(2).collect();
                    u8::from_str_radix(&digits, 16).unwrap()
                }
                other => panic!("there is no escape {other:?} in {row}"),
            },
            plain => u8::try_from(plain).unwrap(),
        };
        bytes.push(byte);
    }
    bytes
}
