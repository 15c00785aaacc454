//! A stage's arguments, read by name and type.

use blip_grammar::{Arguments, Value};

use crate::op::OpError;

/// All arguments of a stage, or of a config value. They were checked against the signature, so to
/// ask for one that is not declared, or as another type, is a mistake of the op: [`OpError::Bug`].
#[derive(Clone, PartialEq, Debug)]
pub struct Args {
    op: &'static str,
    values: Arguments,
}

impl Args {
    pub fn new(op: &'static str, values: Arguments) -> Self {
        Self { op, values }
    }

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

    fn type_error<T>(&self, name: &str, asked: &str) -> Result<T, OpError> {
        Err(OpError::Bug(format!(
            "argument `{name}` of op `{}` is asked for as {asked}, which it is not",
            self.op
        )))
    }

    pub fn int(&self, name: &str) -> Result<i64, OpError> {
        match self.value(name)? {
            Value::Int(number) => Ok(*number),
            _ => self.type_error(name, "an int"),
        }
    }

    /// A whole number that the declared range keeps from being negative.
    pub fn count(&self, name: &str) -> Result<u64, OpError> {
        u64::try_from(self.int(name)?).or_else(|_| self.type_error(name, "a count"))
    }

    /// A number, whole or not.
    pub fn float(&self, name: &str) -> Result<f64, OpError> {
        match self.value(name)? {
            Value::Float(number) => Ok(*number),
            #[expect(
                clippy::cast_precision_loss,
                reason = "a user's whole number as a float; beyond 2^53 none is meant exactly"
            )]
            Value::Int(number) => Ok(*number as f64),
            _ => self.type_error(name, "a float"),
        }
    }

    pub fn string(&self, name: &str) -> Result<&str, OpError> {
        match self.value(name)? {
            Value::Str(text) => Ok(text),
            _ => self.type_error(name, "a string"),
        }
    }

    /// A string that need not be given.
    pub fn optional_string(&self, name: &str) -> Result<Option<String>, OpError> {
        if !self.given(name)? {
            return Ok(None);
        }
        self.string(name).map(|text| Some(text.to_owned()))
    }

    pub fn boolean(&self, name: &str) -> Result<bool, OpError> {
        match self.value(name)? {
            Value::Bool(truth) => Ok(*truth),
            _ => self.type_error(name, "a bool"),
        }
    }

    /// A path or pattern, as written.
    pub fn path(&self, name: &str) -> Result<&str, OpError> {
        match self.value(name)? {
            Value::Path(text) | Value::Str(text) => Ok(text),
            _ => self.type_error(name, "a path"),
        }
    }

    pub fn list(&self, name: &str) -> Result<&[Value], OpError> {
        match self.value(name)? {
            Value::List(values) => Ok(values),
            _ => self.type_error(name, "a list"),
        }
    }

    /// A list of strings.
    pub fn strings(&self, name: &str) -> Result<Vec<&str>, OpError> {
        let strings = self.list(name)?.iter().map(|value| match value {
            Value::Str(text) => Ok(text.as_str()),
            _ => self.type_error(name, "a list of strings"),
        });
        strings.collect()
    }

    /// The call of a config op.
    pub fn config(&self, name: &str) -> Result<Args, OpError> {
        match self.value(name)? {
            Value::Config { op, args } => Ok(Args::new(op, args.clone())),
            _ => self.type_error(name, "a config value"),
        }
    }

    /// An argument that may be absent: `read` reads it where it is given.
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
