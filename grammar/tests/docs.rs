//! The documentation of diagnostics is generated. `BLESS=1` rewrites it.

use std::fs;
use std::path::PathBuf;

use blip_grammar::codes;

fn document(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "docs", name]
        .iter()
        .collect()
}

#[test]
fn the_list_of_diagnostics_is_up_to_date() {
    let mut text = "# Diagnostics\n\n\
        Every message about a workflow has a code. Errors (E) keep it from running, \
        warnings (W) do not.\n\
        This file is generated from `grammar/src/codes.rs` by \
        `BLESS=1 cargo test -p blip-grammar`.\n"
        .to_owned();
    for (code, _) in codes::ALL {
        let explanation = codes::explanation(&code.to_string()).expect("every code is explained");
        text += &format!("\n## {code}\n\n{explanation}\n");
    }
    let path = document("diagnostics.md");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &text).expect("the document can be written");
    }
    assert_eq!(
        fs::read_to_string(&path).unwrap_or_default(),
        text,
        "run with BLESS=1"
    );
}

#[test]
fn codes_are_found_in_either_case() {
    assert_eq!(codes::explanation("e020"), codes::explanation("E020"));
    assert_eq!(codes::explanation("E999"), None);
}
