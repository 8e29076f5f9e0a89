//! Numbers and tensors of a case file.

use serde::Deserialize;

/// A number; one that is not finite is written `"nan"`, `"inf"` or `"-inf"`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Number(pub f64);

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(f64),
    Word(String),
}

impl TryFrom<Written> for Number {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Number(number) => Ok(Self(number)),
            Written::Word(word) => match word.as_str() {
                "nan" => Ok(Self(f64::NAN)),
                "inf" => Ok(Self(f64::INFINITY)),
                "-inf" => Ok(Self(f64::NEG_INFINITY)),
                _ => Err(format!("expected a number, \"nan\", \"inf\" or \"-inf\", got \"{word}\"")),
            },
        }
    }
}

/// A tensor besides logits and target.
#[derive(Clone, Debug, Deserialize)]
pub struct CaseTensor<T> {
    /// `[N, *spatial]` of a mask or weight map, `[N]` of a sample mask.
    pub shape: Vec<usize>,
    /// Row-major.
    pub values: Vec<T>,
}
