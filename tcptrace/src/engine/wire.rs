//! Records of the kernel programs inside facts: the bytes that came over the wire, fixed size, host
//! order (little-endian).

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A record of the kernel programs, as it came over the wire.
#[derive(Clone, Copy, Debug)]
pub struct Wire<T>(pub T);

/// Several of them.
#[derive(Clone, Debug)]
pub struct Records<T>(pub Vec<T>);

impl<T> Default for Records<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: FromBytes> Default for Wire<T> {
    fn default() -> Self {
        Self(T::new_zeroed())
    }
}

impl<T: IntoBytes + Immutable> PartialEq for Wire<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes() == other.0.as_bytes()
    }
}

impl<T: IntoBytes + Immutable> PartialEq for Records<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes() == other.0.as_bytes()
    }
}

impl<T: IntoBytes + Immutable> Serialize for Wire<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(self.0.as_bytes())
    }
}

impl<'de, T: FromBytes> Deserialize<'de> for Wire<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let bytes = <&[u8]>::deserialize(from)?;
        T::read_from_bytes(bytes).map(Self).map_err(|_| D::Error::custom("a record's length"))
    }
}

impl<T: IntoBytes + Immutable> Serialize for Records<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(self.0.as_bytes())
    }
}

impl<'de, T: FromBytes> Deserialize<'de> for Records<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let bytes = <&[u8]>::deserialize(from)?;
        if !bytes.len().is_multiple_of(size_of::<T>()) {
            return Err(D::Error::custom("the records' length"));
        }
        let records = bytes.chunks_exact(size_of::<T>()).filter_map(|b| T::read_from_bytes(b).ok());
        Ok(Self(records.collect()))
    }
}
