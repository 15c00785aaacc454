//! Arguments as JSON, and back: names come from the ops that both processes have, since a
//! [`Value`] refers to them by `&'static str`.

use blip_grammar::{Arguments, StageId, Value};
use serde_json::{Value as Json, json};

use crate::op::OpSet;

/// A value as JSON, tagged by its kind.
pub(super) fn encode(value: &Value) -> Json {
    match value {
        Value::Absent => json!("absent"),
        Value::Int(number) => json!({ "int": number }),
        // As bits, so that the key comes out the same in the child.
        Value::Float(number) => json!({ "float": number.to_bits() }),
        Value::Str(text) => json!({ "str": text }),
        Value::Bool(truth) => json!({ "bool": truth }),
        Value::Duration(milliseconds) => json!({ "duration": milliseconds }),
        Value::Size(bytes) => json!({ "size": bytes }),
        Value::Path(path) => json!({ "path": path }),
        Value::List(values) => json!({ "list": values.iter().map(encode).collect::<Vec<_>>() }),
        Value::Config { op, args } => json!({ "config": [op, encode_args(args)] }),
        Value::Stage(StageId(number)) => json!({ "stage": number }),
    }
}

pub(super) fn encode_args(args: &Arguments) -> Json {
    args.iter()
        .map(|(name, value)| (name.to_owned(), encode(value)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// The value that JSON encodes; nothing when it encodes none, or names an unknown op.
pub(super) fn decode(json: &Json, ops: &OpSet) -> Option<Value> {
    if json == "absent" {
        return Some(Value::Absent);
    }
    let (kind, inner) = json.as_object()?.iter().next()?;
    Some(match kind.as_str() {
        "int" => Value::Int(inner.as_i64()?),
        "float" => Value::Float(f64::from_bits(inner.as_u64()?)),
        "str" => Value::Str(inner.as_str()?.to_owned()),
        "bool" => Value::Bool(inner.as_bool()?),
        "duration" => Value::Duration(inner.as_u64()?),
        "size" => Value::Size(inner.as_u64()?),
        "path" => Value::Path(inner.as_str()?.to_owned()),
        "list" => Value::List(
            inner
                .as_array()?
                .iter()
                .map(|value| decode(value, ops))
                .collect::<Option<_>>()?,
        ),
        "config" => {
            let op = ops.op(inner.get(0)?.as_str()?)?.signature.name;
            Value::Config {
                op,
                args: decode_args(op, inner.get(1)?, ops)?,
            }
        }
        "stage" => Value::Stage(StageId(u32::try_from(inner.as_u64()?).ok()?)),
        _ => return None,
    })
}

pub(super) fn decode_args(op: &str, json: &Json, ops: &OpSet) -> Option<Arguments> {
    let signature = &ops.op(op)?.signature;
    let argument = |(name, value): (&String, &Json)| {
        let known = signature.args.iter().find(|arg| arg.name == name)?;
        Some((known.name, decode(value, ops)?))
    };
    json.as_object()?.iter().map(argument).collect()
}

#[cfg(test)]
mod tests {
    use blip_grammar::{Arg, Signature, Type};

    use super::*;
    use crate::op::Op;

    #[test]
    fn every_kind_of_value_comes_back() {
        let signature = Signature::config("nucleus", Type::Named("Decode"), "x");
        let ops = OpSet::new().with(Op::config(signature.arg(Arg::required(
            "top_p",
            Type::Float,
            "x",
        ))));
        let config = Value::Config {
            op: "nucleus",
            args: Arguments::from([("top_p", Value::Float(0.1 + 0.2))]),
        };
        let plain = [
            Value::Absent,
            Value::Int(-3),
            Value::Float(f64::MIN_POSITIVE),
            Value::Str("\"é\n".to_owned()),
        ];
        let others = [
            Value::Bool(true),
            Value::Duration(7),
            Value::Size(9),
            Value::Path("a/*.tar".to_owned()),
        ];
        let list = Value::List(vec![Value::Stage(StageId(4)), config.clone()]);
        for value in plain.into_iter().chain(others).chain([config, list]) {
            assert_eq!(decode(&encode(&value), &ops), Some(value));
        }
        assert_eq!(decode(&json!({ "config": ["beam", {}] }), &ops), None);
    }
}
