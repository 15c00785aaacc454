//! A stage's arguments, read by name and type.

use blip_grammar::{Arguments, Value};

use crate::op::OpError;

/// All arguments of a stage, or of a config value. They were checked against the signature, so
/// asking for one that is not declared, or as another type, is a mistake of the op:
/// [`OpError::Bug`].
#[derive(Clone, PartialEq, Debug)]
pub struct Args {
    op: &'static str,
    values: Arguments,
}

impl Args {
    /// The arguments of a call of `op`.
    pub fn new(op: &'static str, values: Arguments) -> Self {
        Self { op, values }
    }

    /// The op called.
    pub fn op(&self) -> &'static str {
        self.op
    }

    /// An argument as it is.
    ///
    /// # Errors
    /// [`OpError::Bug`], as every method here.
    pub fn value(&self, name: &str) -> Result<&Value, OpError> {
        self.values
            .get(name)
            .ok_or_else(|| OpError::Bug(format!("op `{}` declares no argument `{name}`", self.op)))
    }

    /// Whether an optional argument was given.
    pub fn given(&self, name: &str) -> Result<bool, OpError> {
        Ok(*self.value(name)? != Value::Absent)
    }

    fn wrong<T>(&self, name: &str, due: &str) -> Result<T, OpError> {
        Err(OpError::Bug(format!(
            "argument `{name}` of op `{}` is asked for as {due}, which it is not",
            self.op
        )))
    }

    /// A whole number.
    pub fn int(&self, name: &str) -> Result<i64, OpError> {
        match self.value(name)? {
            Value::Int(number) => Ok(*number),
            _ => self.wrong(name, "an int"),
        }
    }

    /// A whole number that the declared range keeps from being negative.
    pub fn count(&self, name: &str) -> Result<u64, OpError> {
        u64::try_from(self.int(name)?).or_else(|_| self.wrong(name, "a count"))
    }

    /// A number.
    pub fn float(&self, name: &str) -> Result<f64, OpError> {
        match self.value(name)? {
            Value::Float(number) => Ok(*number),
            #[expect(
                clippy::cast_precision_loss,
                reason = "a user's whole number as a float; beyond 2^53 none is meant exactly"
            )]
            Value::Int(number) => Ok(*number as f64),
            _ => self.wrong(name, "a float"),
        }
    }

    /// A text.
    pub fn text(&self, name: &str) -> Result<&str, OpError> {
        match self.value(name)? {
            Value::Str(text) => Ok(text),
            _ => self.wrong(name, "a string"),
        }
    }

    /// True or false.
    pub fn boolean(&self, name: &str) -> Result<bool, OpError> {
        match self.value(name)? {
            Value::Bool(truth) => Ok(*truth),
            _ => self.wrong(name, "a bool"),
        }
    }

    /// A path or pattern, as written.
    pub fn path(&self, name: &str) -> Result<&str, OpError> {
        match self.value(name)? {
            Value::Path(text) | Value::Str(text) => Ok(text),
            _ => self.wrong(name, "a path"),
        }
    }

    /// The values of a list.
    pub fn list(&self, name: &str) -> Result<&[Value], OpError> {
        match self.value(name)? {
            Value::List(values) => Ok(values),
            _ => self.wrong(name, "a list"),
        }
    }

    /// A list of texts.
    pub fn texts(&self, name: &str) -> Result<Vec<&str>, OpError> {
        let texts = self.list(name)?.iter().map(|value| match value {
            Value::Str(text) => Ok(text.as_str()),
            _ => self.wrong(name, "a list of strings"),
        });
        texts.collect()
    }

    /// The call of a config op.
    pub fn config(&self, name: &str) -> Result<Args, OpError> {
        match self.value(name)? {
            Value::Config { op, args } => Ok(Args::new(op, args.clone())),
            _ => self.wrong(name, "a config value"),
        }
    }

    /// An argument that may be absent, read by `read` where it is not.
    pub fn optional<'a, T>(
        &'a self,
        name: &'a str,
        read: impl FnOnce(&'a Self, &'a str) -> Result<T, OpError>,
    ) -> Result<Option<T>, OpError> {
        if self.given(name)? {
            read(self, name).map(Some)
        } else {
            Ok(None)
        }
    }

    pub(crate) fn values(&self) -> &Arguments {
        &self.values
    }
}
