//! Hostile texts: each is accepted or rejected in time linear in its length.

mod support;

use std::fmt::Write;

use blip_grammar::{Diagnostic, SOURCE_BYTES_MAX, Source, codes};

use support::invariants::check_invariants;

/// The codes of all errors of a text, after it was parsed, checked and formatted.
fn codes_of(text: &str) -> Vec<String> {
    let errors = check_invariants(text)
        .into_iter()
        .filter(Diagnostic::is_error);
    let mut codes: Vec<String> = errors
        .map(|diagnostic| diagnostic.code.to_string())
        .collect();
    codes.sort();
    codes.dedup();
    codes
}

/// A text of the maximum length.
fn filled(text: &str) -> String {
    text.repeat(SOURCE_BYTES_MAX / text.len())
}

/// Short names: `aaaa`, `aaab`, …
fn name(mut number: usize) -> String {
    let mut name = [b'a'; 4];
    for letter in name.iter_mut().rev() {
        *letter += u8::try_from(number % 26).expect("less than 26");
        number /= 26;
    }
    String::from_utf8_lossy(&name).into_owned()
}

#[test]
fn very_many_brackets() {
    for open in ["(", "[", "f(", "f([", "f(a = ["] {
        let deep = format!("a = {}", open.repeat(10_000));
        assert_eq!(codes_of(&deep), ["E004"], "{open}");
        let close: String = open
            .chars()
            .rev()
            .filter_map(|c| match c {
                '(' => Some(')'),
                '[' => Some(']'),
                _ => None,
            })
            .collect();
        assert_eq!(
            codes_of(&format!("{deep}1{}", close.repeat(10_000))),
            ["E004"],
            "{open}"
        );
        assert_eq!(codes_of(&filled(open)), ["E004"], "{open}");
    }
    assert_eq!(codes_of(&filled(")")), ["E014"]);
    assert_eq!(codes_of(&filled("(]")), ["E014"]);
    let brackets = "[".repeat(200_000) + &"]".repeat(200_000);
    assert_eq!(
        codes_of(&format!("{brackets}\n{}", "a=\n".repeat(200_000))),
        ["E004", "E005", "E010"]
    );
    assert_eq!(
        codes_of(&format!(
            "{}{}",
            "(".repeat(200_000),
            "\na=1".repeat(200_000)
        )),
        ["E004", "E005", "E030"]
    );
}

#[test]
fn a_line_of_a_megabyte() {
    let values = "1,".repeat(SOURCE_BYTES_MAX / 2 - 10);
    assert_eq!(codes_of(&format!("a = [{values}]")), [""; 0]);
    assert_eq!(
        codes_of(&format!("a = read.captions({values})")),
        ["E005", "E045"]
    );
    let names = "x,".repeat(SOURCE_BYTES_MAX / 2 - 10);
    assert_eq!(codes_of(&format!("a = merge({names})")), ["E005", "E020"]);
    assert_eq!(codes_of(&filled("x ")), ["E010"]);
    assert_eq!(codes_of(&filled("é")), ["E010"]);
    assert_eq!(codes_of(&filled("#")), [""; 0]);
    assert_eq!(codes_of(&filled(" ")), [""; 0]);
    assert_eq!(codes_of(&filled("@")), ["E010"]);
    assert_eq!(codes_of(&filled("9")), ["E010"]);
    assert_eq!(
        codes_of(&format!("a = {}", "9".repeat(1_000_000))),
        ["E013"]
    );
    assert_eq!(codes_of(&format!("{} = 1", "a".repeat(1_000_000))), [""; 0]);
}

#[test]
fn a_call_of_a_megabyte_with_one_argument_repeated() {
    let values = "[],".repeat(SOURCE_BYTES_MAX / 6);
    let again = "dedupe,".repeat(SOURCE_BYTES_MAX / 2 / 7 - 10);
    assert_eq!(
        codes_of(&format!("dedupe = true\na = merge({values}{again})")),
        ["E005", "E044"]
    );
}

#[test]
fn a_string_of_a_megabyte() {
    let text = "x".repeat(SOURCE_BYTES_MAX - 10);
    assert_eq!(codes_of(&format!("a = \"{text}\"")), [""; 0]);
    assert_eq!(codes_of(&format!("a = \"{text}")), ["E011"]);
    let escapes = "\\q".repeat(SOURCE_BYTES_MAX / 2 - 10);
    assert_eq!(codes_of(&format!("a = \"{escapes}\"")), ["E005", "E012"]);
    assert_eq!(codes_of(&filled("\"")), ["E010"]);
    assert_eq!(codes_of(&filled("\"\n")), ["E005", "E011"]);
    assert_eq!(codes_of(&filled("\\")), ["E010"]);
}

#[test]
fn more_than_a_megabyte() {
    let refused =
        Source::new("hostile.blip", "x".repeat(SOURCE_BYTES_MAX + 1)).expect_err("too large");
    assert_eq!(refused.code, codes::SOURCE_TOO_LARGE);
    let refused = Source::from_bytes("hostile.blip", vec![0xff; SOURCE_BYTES_MAX + 1])
        .expect_err("too large");
    assert_eq!(refused.code, codes::SOURCE_TOO_LARGE);
}

#[test]
fn hidden_characters() {
    assert_eq!(
        Source::new("hostile.blip", "a\0b").expect_err("NUL").code,
        codes::CONTROL_CHARACTER
    );
    for hidden in [
        "\u{202e}", "\u{2066}", "\u{200b}", "\u{feff}", "\u{1b}", "\u{85}", "\u{2028}", "\r",
    ] {
        for text in [
            format!("a = merge{hidden}(x)"),
            format!("# {hidden}x\n"),
            format!("a = \"{hidden}x\""),
        ] {
            assert_eq!(codes_of(&text)[0], "E003", "{text:?}");
        }
        assert_eq!(codes_of(&filled(hidden))[0], "E003");
    }
}

#[test]
fn a_hundred_thousand_statements() {
    let count = 100_000;
    let mut chain = String::new();
    for at in (1..count).rev() {
        writeln!(chain, "{}={}", name(at), name(at - 1)).expect("writing to a string never fails");
    }
    chain += "aaaa=1";
    assert_eq!(codes_of(&chain), [""; 0], "each depends on the next");
    let cycle = chain.replace("aaaa=1", &format!("aaaa={}", name(count - 1)));
    assert_eq!(codes_of(&cycle), ["E031"]);
    let unknown: String = (0..count)
        .map(|at| format!("{}=zzz{}\n", name(at), at % 10))
        .collect();
    assert_eq!(codes_of(&unknown), ["E005", "E020"]);
    let stages: String = (0..50_000)
        .map(|at| format!("{}=merge({})\n", name(at + 1), name(at)))
        .collect();
    assert_eq!(
        codes_of(&format!("aaaa=read.captions(\"x\")\n{stages}")),
        [""; 0]
    );
    let calls: String = (0..40_000)
        .map(|at| format!("read.captions(\"{at}\"),"))
        .collect();
    assert_eq!(
        codes_of(&format!("a = merge({calls})")),
        [""; 0],
        "many calls in one"
    );
    let params: String = (0..40_000)
        .map(|at| format!("# doc\nparam {}=1 # x\n", name(at)))
        .collect();
    assert_eq!(codes_of(&params), [""; 0]);
    assert_eq!(codes_of(&filled("@gpu(1)\n")), ["E010"]);
    assert_eq!(
        codes_of(&format!("{}a=merge(b)", "@gpu(1)\n".repeat(100_000))),
        ["E005", "E048"]
    );
    assert_eq!(codes_of(&filled("a=f(\n")), ["E005", "E014"]);
    assert_eq!(codes_of(&filled("a=\n")), ["E005", "E010"]);
    assert_eq!(codes_of(&filled("a\n")), ["E005", "E010"]);
    assert_eq!(codes_of(&filled("f(#\n")), ["E004"]);
}

#[test]
fn values_that_contain_one_another() {
    let doubled: String = (0..60)
        .map(|at| format!("v{}=[v{at},v{at}]\n", at + 1))
        .collect();
    assert_eq!(codes_of(&format!("v0=1\n{doubled}")), ["E006"]);
    let list = format!("xs=[{}]\n", "1,".repeat(200_000));
    let uses: String = (0..40_000)
        .map(|at| format!("{}=[xs]\n", name(at)))
        .collect();
    assert_eq!(codes_of(&(list + &uses)), ["E006"]);
    let attributes = "@gpu(1)\na=merge(read.captions(\"x\"))\n";
    assert_eq!(codes_of(attributes), [""; 0]);
}
