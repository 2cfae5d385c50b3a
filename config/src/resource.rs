//! `resource`: attributes of whoever the telemetry is about.
//!
//! At the top of the file they describe the agent itself, as the specification wants it for the process that reads the
//! file. Under `distribution.spantap.resource` they are added to every watched service.

use crate::error::ProblemKind;
use crate::field::Field;
use crate::pairs;
use crate::scalar::Scalar;

/// Attributes of a resource.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resource {
    /// In the order of the file; each name stands once.
    pub attributes: Vec<Attribute>,
}

/// One attribute.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribute {
    /// Its name, as in `deployment.environment.name`.
    pub name: String,
    /// Its value.
    pub value: AttributeValue,
}

/// A value of one of the types that attributes have.
#[derive(Clone, Debug, PartialEq)]
pub enum AttributeValue {
    /// `string`, the default type.
    String(String),
    /// `bool`.
    Bool(bool),
    /// `int`.
    Int(i64),
    /// `double`.
    Double(f64),
    /// `string_array`.
    StringArray(Vec<String>),
    /// `bool_array`.
    BoolArray(Vec<bool>),
    /// `int_array`.
    IntArray(Vec<i64>),
    /// `double_array`.
    DoubleArray(Vec<f64>),
}

#[derive(Clone, Copy, Debug)]
enum Type {
    String,
    Bool,
    Int,
    Double,
    StringArray,
    BoolArray,
    IntArray,
    DoubleArray,
}

impl Resource {
    pub(crate) fn read(field: &Field<'_>) -> Option<Self> {
        let mut section = field.section()?;
        section.unsupported(&["schema_url", "detection/development"]);
        let mut resource = Self::default();
        if let Some(list) = section.field("attributes_list")
            && let Some(text) = list.text()
        {
            match pairs::parse(text) {
                Ok(pairs) => {
                    for (name, value) in pairs {
                        resource.put(Attribute { name, value: AttributeValue::String(value) });
                    }
                }
                Err(why) => list.invalid(why, Some("write it as name=value,name2=value2".to_owned())),
            }
        }
        // "Entries have higher priority than entries from .resource.attributes_list."
        if let Some(list) = section.field("attributes") {
            let list = list.list().unwrap_or_default();
            list.iter().filter_map(Attribute::read).for_each(|attribute| resource.put(attribute));
        }
        section.finish();
        Some(resource)
    }

    /// Adds an attribute, in the place of one of the same name.
    pub(crate) fn put(&mut self, attribute: Attribute) {
        self.attributes.retain(|other| other.name != attribute.name);
        self.attributes.push(attribute);
    }
}

impl Attribute {
    /// `None` for an attribute with a problem, and for one whose value is null.
    fn read(field: &Field<'_>) -> Option<Self> {
        let mut section = field.section()?;
        let name = section.required("name").and_then(|name| name.filled_text());
        let mut of = Type::String;
        section.set("type", &mut of, |field| field.choice(&TYPES));
        let value = section.field_or_null("value");
        section.finish();
        let Some(value) = value else {
            field.problem(ProblemKind::Missing("value".to_owned()), None);
            return None;
        };
        if value.is_null() {
            return None;
        }
        Some(Self { name: name?.to_owned(), value: AttributeValue::read(&value, of)? })
    }
}

impl AttributeValue {
    fn read(field: &Field<'_>, of: Type) -> Option<Self> {
        Some(match of {
            Type::String => Self::String(field.text()?.to_owned()),
            Type::Bool => Self::Bool(field.boolean()?),
            Type::Int => Self::Int(int(field)?),
            Type::Double => Self::Double(double(field)?),
            Type::StringArray => Self::StringArray(all(field, |item| item.text().map(str::to_owned))?),
            Type::BoolArray => Self::BoolArray(all(field, Field::boolean)?),
            Type::IntArray => Self::IntArray(all(field, int)?),
            Type::DoubleArray => Self::DoubleArray(all(field, double)?),
        })
    }
}

fn all<'a, T>(field: &Field<'a>, read: impl Fn(&Field<'a>) -> Option<T>) -> Option<Vec<T>> {
    let items = field.list()?;
    let values: Vec<T> = items.iter().filter_map(read).collect();
    (values.len() == items.len()).then_some(values)
}

fn int(field: &Field<'_>) -> Option<i64> {
    match field.scalar()? {
        Scalar::Int(number) => i64::try_from(*number).ok(),
        _ => None,
    }
    .or_else(|| field.mismatch("a whole number of 64 bits"))
}

fn double(field: &Field<'_>) -> Option<f64> {
    match field.scalar()? {
        Scalar::Float(number) => Some(*number),
        // Whole numbers are numbers; beyond 2^53 the nearest double is meant.
        Scalar::Int(number) => number.to_string().parse().ok(),
        _ => field.mismatch("a number"),
    }
}

const TYPES: [(&str, Type); 8] = [
    ("string", Type::String),
    ("bool", Type::Bool),
    ("int", Type::Int),
    ("double", Type::Double),
    ("string_array", Type::StringArray),
    ("bool_array", Type::BoolArray),
    ("int_array", Type::IntArray),
    ("double_array", Type::DoubleArray),
];
