//! Reads a tree with serde. Text of a variable or flag takes whatever type the setting asks for; a
//! value of the file has the type it was written with.

use serde::de::value::{Error, MapAccessDeserializer, MapDeserializer, SeqDeserializer};
use serde::de::{Deserializer, Error as _, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::tree::{Node, Value, parse_value};

/// What an error says that came from a [`Value::Hole`]: it has been reported already.
pub(super) const HOLE: &str = "(reported already)";

impl IntoDeserializer<'_, Error> for Node {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl Node {
    /// A list out of loose text: `a, b` or TOML's `["a", "b"]`.
    pub(super) fn listed(self) -> Self {
        let Value::Loose(text) = &self.value else { return self };
        if text.trim_start().starts_with('[')
            && let Some(list) = parse_value(text, &self.place)
        {
            return list;
        }
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        let items = items.map(|item| Self::loose(self.place.clone(), item)).collect();
        Self { value: Value::List(items), place: self.place }
    }

    /// A table out of loose text: TOML's `{ a = "b" }`.
    fn tabled(self) -> Self {
        let Value::Loose(text) = &self.value else { return self };
        parse_value(text, &self.place).unwrap_or(self)
    }

    fn numbered<N: std::str::FromStr>(&self) -> Result<Option<N>, Error> {
        let Value::Loose(text) = &self.value else { return Ok(None) };
        text.trim()
            .parse()
            .map(Some)
            .map_err(|_| Error::custom(format!("`{text}` is not a whole number here")))
    }
}

macro_rules! numbers {
    ($($method:ident => $visit:ident as $type:ty),* $(,)?) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match self.numbered::<$type>()? {
                Some(number) => visitor.$visit(number),
                None => self.deserialize_any(visitor),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Node {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Table(table) => {
                let mut map = MapDeserializer::new(table.into_iter());
                let value = visitor.visit_map(&mut map)?;
                map.end().map(|()| value)
            }
            Value::List(list) => {
                let items = list.into_iter().filter(|item| !matches!(item.value, Value::Hole));
                let mut items = SeqDeserializer::new(items);
                let value = visitor.visit_seq(&mut items)?;
                items.end().map(|()| value)
            }
            Value::Text(text) | Value::Loose(text) => visitor.visit_string(text),
            Value::Integer(number) => visitor.visit_i64(number),
            Value::Float(number) => visitor.visit_f64(number),
            Value::Boolean(yes) => visitor.visit_bool(yes),
            Value::Hole => Err(Error::custom(HOLE)),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let Value::Loose(text) = &self.value else { return self.deserialize_any(visitor) };
        match text.trim().to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => visitor.visit_bool(true),
            "false" | "no" | "off" | "0" => visitor.visit_bool(false),
            _ => Err(Error::custom(format!("`{text}` is neither true nor false"))),
        }
    }

    numbers! {
        deserialize_i8 => visit_i64 as i64,
        deserialize_i16 => visit_i64 as i64,
        deserialize_i32 => visit_i64 as i64,
        deserialize_i64 => visit_i64 as i64,
        deserialize_u8 => visit_u64 as u64,
        deserialize_u16 => visit_u64 as u64,
        deserialize_u32 => visit_u64 as u64,
        deserialize_u64 => visit_u64 as u64,
        deserialize_f32 => visit_f64 as f64,
        deserialize_f64 => visit_f64 as f64,
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if matches!(self.value, Value::Hole) { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.listed().deserialize_any(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.tabled().deserialize_any(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.tabled().deserialize_any(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.value {
            Value::Text(word) | Value::Loose(word) => visitor.visit_enum(word.into_deserializer()),
            Value::Table(table) => {
                visitor.visit_enum(MapAccessDeserializer::new(MapDeserializer::new(table.into_iter())))
            }
            _ => self.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        i128 u128 char str string bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

/// The names of a struct's fields, as serde knows them. Empty for what is not a plain struct.
pub(super) fn fields_of<T: serde::de::DeserializeOwned>() -> &'static [&'static str] {
    struct Ask<'a>(&'a mut &'static [&'static str]);
    impl<'de> Deserializer<'de> for Ask<'_> {
        type Error = Error;

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
            Err(Error::custom("asked only for the fields"))
        }

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _name: &'static str,
            fields: &'static [&'static str],
            visitor: V,
        ) -> Result<V::Value, Error> {
            *self.0 = fields;
            self.deserialize_any(visitor)
        }

        forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
            unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }
    let mut fields: &'static [&'static str] = &[];
    let _ = T::deserialize(Ask(&mut fields));
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::place::Place;
    use serde::Deserialize;

    #[derive(Deserialize, PartialEq, Debug)]
    struct Sample {
        words: Vec<String>,
        count: u16,
        yes: bool,
        name: Option<String>,
    }

    #[test]
    fn a_variable_takes_the_type_of_its_setting() {
        assert_eq!(fields_of::<Sample>(), ["words", "count", "yes", "name"]);
        let mut node = Node::table(Place::BuiltIn);
        for (key, text) in [("words", "a, b"), ("count", "7"), ("yes", "on"), ("name", "12")] {
            let variable = Place::Variable("X".into());
            node.put(&crate::config::place::Path::of(key), Node::loose(variable, text));
        }
        let sample = Sample::deserialize(node).unwrap();
        let words = vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(sample, Sample { words, count: 7, yes: true, name: Some("12".to_owned()) });
    }
}
