//! Invariants of random texts: nothing panics, formatting is lossless and idempotent, and a program
//! does not depend on the order, the names and the layout of its file.

mod support;

use std::collections::BTreeMap;

use blip_grammar::{Checked, Program, Source, StageId, Value, check, format, parse};
use proptest::collection::vec;
use proptest::prelude::*;

use support::invariants::{check_formatting, check_invariants};
use support::{dump, toy};

/// Fragments of the language, and some of no language, in any order.
fn fragments() -> impl Strategy<Value = String> {
    let fragments = prop::sample::select(vec![
        "a",
        "b",
        "pairs",
        "param",
        "export",
        "as",
        "in",
        "json",
        "merge",
        "caption",
        "read.captions",
        "bert.base",
        "=",
        "(",
        ")",
        "[",
        "]",
        ",",
        "@",
        "@gpu(1)",
        "..",
        ".",
        ":",
        "1",
        "-1",
        "0.5",
        "3e-4",
        "10min",
        "16GiB",
        "1e",
        "\"x\"",
        "\"",
        "\\",
        "\\u{41}",
        "# c",
        "#",
        "\n",
        "\n",
        "\n",
        "\r\n",
        "\r",
        " ",
        "  ",
        "\t",
        "true",
        "int",
        "[float]",
        "ü",
        "\u{202e}",
        "'",
        ";",
        "a = merge(",
        "param p = 1 in 0..2",
        "x = read.captions(\"x\")\n",
    ]);
    vec(fragments, 0..40).prop_map(|fragments| fragments.concat())
}

/// Blanks and comments that may stand inside brackets.
fn gap() -> impl Strategy<Value = String> {
    let gaps = vec!["", "", " ", "\n", " # why (\n", "\n\n  ", "#\n", "\r\n\t"];
    prop::sample::select(gaps).prop_map(str::to_owned)
}

fn expression() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "1",
        "-7_000",
        "0.5",
        "1e-9",
        "10min",
        "1.5GiB",
        "true",
        "name",
        "bert.base",
        "\"text # \\\"(\"",
        "[]",
        "f()",
        "a_long_name_that_fills_its_line_and_so_breaks_the_call_around_it",
    ]);
    leaf.prop_map(str::to_owned)
        .prop_recursive(4, 40, 5, |inner| {
            let part = (gap(), inner, gap(), prop::option::of("[a-z]{1,8}"));
            let parts = (vec(part, 0..5), any::<bool>(), gap());
            (parts, any::<bool>()).prop_map(|((parts, trailing, end), call)| {
                let parts: Vec<String> = parts
                    .into_iter()
                    .map(|(before, value, after, name)| match name.filter(|_| call) {
                        Some(name) => format!("{before}{name}{after}={before}{value}{after}"),
                        None => format!("{before}{value}{after}"),
                    })
                    .collect();
                let comma = if trailing && !parts.is_empty() {
                    ","
                } else {
                    ""
                };
                let (open, close) = if call { ("f.g (", ")") } else { ("[", "]") };
                format!("{open}{}{comma}{end}{close}", parts.join(","))
            })
        })
}

fn statement() -> impl Strategy<Value = String> {
    let comment = || {
        prop::sample::select(vec![
            "",
            "",
            "",
            " # behind",
            "  \n\n# between",
            "\n  # indented",
        ])
    };
    let attribute = prop::sample::select(vec![
        "",
        "",
        "@gpu(1) ",
        "@a\n",
        "@a(x = 1) # why\n@b( # in\n 2)\n",
        "@a @b(3)\n# c\n",
    ]);
    let body = prop_oneof![
        (expression(), "[a-z]{1,12}").prop_map(|(value, name)| format!("v_{name}={value}")),
        expression().prop_map(|value| format!("param p : [ int ] = {value}\tin  0 .. 1e3")),
        Just("param q: path".to_owned()),
        "[a-z]{1,12}".prop_map(|name| format!("export v_{name} as  json \"out\"")),
    ];
    (attribute, body, comment())
        .prop_map(|(attribute, body, comment)| format!("{attribute}{body}{comment}\n"))
}

/// A valid workflow of the toy ops.
#[derive(Clone, Debug)]
struct Flow {
    /// Each after those it depends on.
    statements: Vec<String>,
    /// The names they bind.
    names: Vec<String>,
}

fn flow() -> impl Strategy<Value = Flow> {
    let step = (
        0_usize..8,
        any::<prop::sample::Index>(),
        any::<prop::sample::Index>(),
        0_u32..4,
    );
    vec(step, 1..20).prop_map(|steps| {
        let mut statements = vec![
            "param seed = 7".to_owned(),
            "v_first = read.captions(\"a.json\")".to_owned(),
            "v_net = med(vit.tiny, vocab = read.wordpiece(\"v\"))".to_owned(),
            "v_model = pretrain(v_net, v_first, seed)".to_owned(),
        ];
        let mut pairs = vec!["v_first".to_owned()];
        let mut models = vec!["v_model".to_owned()];
        let mut names: Vec<String> = ["v_first", "v_net", "v_model"].map(str::to_owned).into();
        for (at, (kind, left, right, number)) in steps.into_iter().enumerate() {
            let name = format!("v_{at}");
            let (one, other, model) = (left.get(&pairs), right.get(&pairs), left.get(&models));
            let value = match kind {
                0 => format!("read.captions(\"{number}.json\")"),
                1 => format!("merge({one}, {other})"),
                2 => format!("merge([{one}], dedupe = {})", number > 1),
                3 => format!(
                    "caption(finetune_captioner({model}, {one}), {other}, per_image = {})",
                    number + 1
                ),
                4 => format!(
                    "filter(finetune_filter({model}, {one}, seed), {other}, threshold = 0.{number})"
                ),
                5 => one.clone(),
                6 => format!("evaluate({model}, {one}, within = {}min)", number + 1),
                _ => format!("pretrain(v_net, {one}, epochs = {}, seed)", number + 1),
            };
            let attribute = if matches!(kind, 5) || number != 3 {
                ""
            } else {
                "@gpu(1)\n"
            };
            match kind {
                6 => {}
                7 => models.push(name.clone()),
                _ => pairs.push(name.clone()),
            }
            statements.push(format!("{attribute}{name} = {value}"));
            if number == 2 && kind != 6 && kind != 7 {
                statements.push(format!("export {name} as json \"{at}.json\""));
            }
            names.push(name);
        }
        Flow { statements, names }
    })
}

fn program(text: &str) -> Program {
    let source = Source::new("flow.blip", text).expect("a flow is valid text");
    let parsed = parse(&source);
    let Checked {
        program,
        diagnostics,
    } = check(&parsed.file, &source, &toy::signatures(), &[]);
    let shown: Vec<String> = diagnostics
        .iter()
        .map(|diagnostic| diagnostic.display(&source).to_string())
        .collect();
    program.unwrap_or_else(|| panic!("{text}\n{}", shown.join("\n")))
}

/// What a program computes, independent of names and of the order of the file: each stage is
/// identified by a hash of its op, its arguments and its inputs.
fn essence(program: &Program) -> Vec<String> {
    let mut known: BTreeMap<u32, String> = BTreeMap::new();
    let mut essence: Vec<String> = Vec::new();
    for (id, stage) in program.stage_ids() {
        let args: Vec<String> = stage
            .args
            .iter()
            .map(|(name, value)| format!("{name}={}", content(value, &known)))
            .collect();
        let text = format!(
            "{}({}) {}",
            stage.op,
            args.join(","),
            dump::attributes(&stage.attributes)
        );
        known.insert(id.0, short_hash(&text));
        essence.push(text);
    }
    let stage = |id: &StageId| known.get(&id.0).cloned().unwrap_or_default();
    essence.extend(
        program
            .exports
            .iter()
            .map(|export| format!("{} {} {}", stage(&export.stage), export.format, export.path)),
    );
    essence.extend(
        program
            .default_targets
            .iter()
            .map(|id| format!("run {}", stage(id))),
    );
    essence.extend(
        program
            .params
            .iter()
            .map(|param| format!("{} {}", param.name, param.value)),
    );
    essence.sort();
    essence
}

fn content(value: &Value, known: &BTreeMap<u32, String>) -> String {
    match value {
        Value::Stage(id) => known
            .get(&id.0)
            .cloned()
            .expect("an input comes before its consumer"),
        Value::List(values) => values
            .iter()
            .map(|value| content(value, known))
            .collect::<Vec<_>>()
            .join(","),
        Value::Config { op, args } => {
            let args: Vec<String> = args
                .iter()
                .map(|(name, value)| format!("{name}={}", content(value, known)))
                .collect();
            format!("{op}({})", args.join(","))
        }
        value => value.to_string(),
    }
}

/// FNV-1a of a text, so that the text of a stage does not contain those of all its inputs.
fn short_hash(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    format!("{hash:016x}")
}

proptest! {
    #[test]
    fn any_bytes_are_accepted(bytes in vec(any::<u8>(), 0..300)) {
        if let Ok(source) = Source::from_bytes("any.blip", bytes) {
            check_invariants(source.text());
        }
    }

    #[test]
    fn any_text_is_accepted(text in "\\PC{0,200}") {
        check_invariants(&text);
    }

    #[test]
    fn any_fragments_of_the_language_are_accepted(text in fragments()) {
        check_invariants(&text);
    }

    #[test]
    fn formatting_is_lossless_and_idempotent(
        statements in vec(statement(), 0..8),
        crlf in any::<bool>(),
    ) {
        let text = statements.concat();
        let text = if crlf { text.replace('\n', "\r\n").replace("\r\r\n", "\r\n") } else { text };
        let source = Source::new("any.blip", text).expect("statements are valid text");
        let parsed = parse(&source);
        prop_assert!(parsed.file.complete, "{}\n{:?}", source.text(), parsed.diagnostics);
        check_formatting(&source);
    }

    #[test]
    fn a_program_does_not_depend_on_order_names_or_layout(
        flow in flow(),
        order in any::<prop::sample::Index>(),
        gaps in vec(prop::sample::select(vec![" ", "  ", "\t"]), 1..5),
        comments in vec(prop::sample::select(vec!["", "# about it\n", "\n\n", "# (\n# [\n"]), 1..5),
    ) {
        let text = flow.statements.join("\n");
        let expected = essence(&program(&text));
        let formatted = {
            let source = Source::new("flow.blip", text.clone()).expect("a flow is valid text");
            format(&parse(&source).file, &source)
        };
        prop_assert_eq!(&expected, &essence(&program(&formatted)), "formatted");

        let mut shuffled = flow.statements.clone();
        shuffled.rotate_left(order.index(flow.statements.len()));
        shuffled.swap(0, order.index(flow.statements.len()));
        prop_assert_eq!(&expected, &essence(&program(&shuffled.join("\n"))), "shuffled");
        shuffled.reverse();
        prop_assert_eq!(&expected, &essence(&program(&shuffled.join("\n"))), "reversed");

        let mut renamed = format!("{text} ");
        for (at, name) in flow.names.iter().enumerate() {
            for end in [" ", ",", ")", "]", "\n"] {
                let other = format!("other_{}_{at}{end}", at * 7 % 13);
                renamed = renamed.replace(&format!("{name}{end}"), &other);
            }
        }
        prop_assert_eq!(&expected, &essence(&program(&renamed)), "renamed");

        let mut laid_out = String::new();
        for (at, statement) in flow.statements.iter().enumerate() {
            laid_out += comments[at % comments.len()];
            laid_out += &statement
                .replace(' ', gaps[at % gaps.len()])
                .replace('(', "(\n  # inside\n")
                .replace("1\n)", "1)");
            laid_out += "  # behind\r\n";
        }
        prop_assert_eq!(&expected, &essence(&program(&laid_out)), "laid out");
    }

    #[test]
    fn a_value_prints_as_a_literal_of_itself(
        number in any::<i64>(),
        float in prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL | prop::num::f64::ZERO,
        text in "\\PC*|[\n\r\t\"\\\\\u{202e}\u{7f}ü]*",
        amount in 0_u64..1 << 52,
    ) {
        let quoted = Value::Str(text.clone()).to_string();
        let values = [
            Value::Int(number).to_string(),
            Value::Float(float).to_string(),
            quoted.clone(),
            Value::Duration(amount).to_string(),
            Value::Size(amount).to_string(),
            format!("[{quoted}, {quoted}]"),
        ];
        for value in values {
            let program = program(&format!("param p = {value}\nx = p"));
            let found = &program.params[0].value;
            let zero = value == "-0.0";
            prop_assert_eq!(found.to_string(), if zero { "0.0".to_owned() } else { value });
        }
        let read = program(&format!("param p = {quoted}\nx = p"));
        prop_assert_eq!(&read.params[0].value, &Value::Str(text));
    }
}
