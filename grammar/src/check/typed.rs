//! Values with the types inferred for them, and which coercions there are.

use std::fmt;

use super::wording::with_article;
use crate::ast::{Expr, ExprKind};
use crate::program::Value;
use crate::types::{DECLARABLE, Type};

/// An evaluated expression.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct TypedValue {
    pub(super) value: Value,
    pub(super) ty: InferredType,
}

/// The type of a value by itself. That of a list is the types of all its values: which list type it
/// has is decided where it is used, since `[]` and `[1, 0.5]` may be of several.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum InferredType {
    One(Type),
    List(Vec<InferredType>),
}

impl TypedValue {
    pub(super) fn one(value: Value, ty: Type) -> TypedValue {
        let ty = InferredType::One(ty);
        TypedValue { value, ty }
    }

    pub(super) fn list(values: Vec<TypedValue>) -> TypedValue {
        let pairs = values.into_iter().map(|typed| (typed.value, typed.ty));
        let (values, types) = pairs.unzip();
        TypedValue {
            value: Value::List(values),
            ty: InferredType::List(types),
        }
    }

    /// A value that was coerced to `ty`.
    pub(super) fn of_type(value: Value, ty: Type) -> TypedValue {
        let ty = InferredType::of(&value, ty);
        TypedValue { value, ty }
    }

    /// The values of a list, each with its type.
    pub(super) fn elements(&self) -> Option<Vec<TypedValue>> {
        let (Value::List(values), InferredType::List(types)) = (&self.value, &self.ty) else {
            return None;
        };
        let pairs = values.iter().cloned().zip(types.iter().cloned());
        Some(pairs.map(|(value, ty)| TypedValue { value, ty }).collect())
    }

    /// The value as one of type `ty`, if it is one or can be coerced.
    pub(super) fn as_type(&self, ty: Type) -> Option<Value> {
        coerce(&self.value, &self.ty, ty)
    }
}

impl InferredType {
    /// The type of a value that was coerced to `ty`.
    fn of(value: &Value, ty: Type) -> InferredType {
        match (value, ty) {
            (Value::List(values), Type::List(element)) => {
                let types = values.iter().map(|value| InferredType::of(value, *element));
                InferredType::List(types.collect())
            }
            _ => InferredType::One(ty),
        }
    }

    /// The type of a param with such a default and no declared type. A list of ints and floats is
    /// one of floats.
    pub(super) fn declarable(&self) -> Option<Type> {
        match self {
            InferredType::One(ty) => {
                let (_, one, _) = DECLARABLE.iter().find(|(_, one, _)| one == ty)?;
                Some(*one)
            }
            InferredType::List(types) => {
                let element = common_type(types)?;
                let (.., list) = DECLARABLE.iter().find(|(_, one, _)| *one == element)?;
                Some(*list)
            }
        }
    }
}

/// The type of which all of these are, or can be coerced to; none for no types at all.
fn common_type(types: &[InferredType]) -> Option<Type> {
    let mut types = types.iter().map(|ty| match ty {
        InferredType::One(ty) => Some(*ty),
        InferredType::List(_) => None,
    });
    let first = types.next()??;
    types.try_fold(first, |common, next| match (common, next?) {
        (common, next) if common == next => Some(common),
        (Type::Int, Type::Float) | (Type::Float, Type::Int) => Some(Type::Float),
        _ => None,
    })
}

/// With an article, as in "this is a list of int".
impl fmt::Display for InferredType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// More values of a list are not looked at: it may have hundreds of thousands.
        const COUNTED_MAX: usize = 1000;
        let types = match self {
            InferredType::One(ty) => return f.write_str(&with_article(*ty)),
            InferredType::List(types) => types,
        };
        let mut kinds: Vec<String> = Vec::new();
        for ty in types.iter().take(COUNTED_MAX) {
            let kind = match ty {
                InferredType::One(ty) => ty.to_string(),
                InferredType::List(_) => "lists".to_owned(),
            };
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        match kinds.as_slice() {
            [] => f.write_str("an empty list"),
            kinds => write!(f, "a list of {}", kinds.join(" and ")),
        }
    }
}

/// Evaluates an expression without names and calls.
pub(super) fn literal(expr: &Expr) -> Option<TypedValue> {
    let (value, ty) = match &expr.kind {
        ExprKind::Int(number) => (Value::Int(*number), Type::Int),
        ExprKind::Float(number) => (Value::Float(*number), Type::Float),
        ExprKind::Str(text) => (Value::Str(text.clone()), Type::Str),
        ExprKind::Bool(value) => (Value::Bool(*value), Type::Bool),
        ExprKind::Duration(ms) => (Value::Duration(*ms), Type::Duration),
        ExprKind::Size(bytes) => (Value::Size(*bytes), Type::Size),
        ExprKind::List(values) => {
            let values: Option<Vec<TypedValue>> = values.iter().map(literal).collect();
            return Some(TypedValue::list(values?));
        }
        ExprKind::Name(_) | ExprKind::Call { .. } | ExprKind::Error => return None,
    };
    Some(TypedValue::one(value, ty))
}

/// Whether a value of type `found` is of type `ty`, without coercion.
pub(super) fn is_of_type(found: Type, ty: Type) -> bool {
    match ty {
        Type::OneOf(types) => types.iter().any(|ty| is_of_type(found, *ty)),
        _ => found == ty,
    }
}

fn coerce(value: &Value, found: &InferredType, ty: Type) -> Option<Value> {
    match (value, found, ty) {
        (_, _, Type::OneOf(types)) => {
            // A value that is of one of the types as it is must not become one of the others.
            if types.iter().any(|ty| *found == InferredType::One(*ty)) {
                return Some(value.clone());
            }
            types.iter().find_map(|ty| coerce(value, found, *ty))
        }
        (Value::Str(text), _, Type::Choice(words)) => {
            words.contains(&text.as_str()).then(|| value.clone())
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "a user's whole number as a float; beyond 2^53 none is meant exactly"
        )]
        (Value::Int(number), _, Type::Float) => Some(Value::Float(*number as f64)),
        (Value::Str(text), _, Type::Path) => Some(Value::Path(text.clone())),
        (Value::List(values), InferredType::List(types), Type::List(element)) => {
            let pairs = values.iter().zip(types);
            let values = pairs.map(|(value, found)| coerce(value, found, *element));
            values.collect::<Option<_>>().map(Value::List)
        }
        (_, InferredType::One(found), ty) => (*found == ty).then(|| value.clone()),
        _ => None,
    }
}
