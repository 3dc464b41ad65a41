//! Whether a file's bytes are well formed as the protocol buffers of an ONNX model: every number ends, every length fits.
//! What goes in: bytes that anyone may have written. What comes out: yes or no, and where not. No meaning is read.
//!
//! rten needs this said beforehand: it reads a number of more than ten bytes without end, and makes room for a length
//! before it looks whether so much is there.

/// How deep graphs may lie in graphs; exporters make two or three levels.
const MOST_DEPTH: usize = 32;

/// A message of `onnx.proto`, as far as its fields hold messages or packed numbers themselves.
#[derive(Clone, Copy)]
enum Message {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    ValueInfo,
    Type,
    TensorType,
    Shape,
    /// One whose fields are numbers and text only.
    Plain,
}

/// What the bytes of a field are.
enum Content {
    Message(Message),
    /// Numbers of variable length, one after the other.
    Numbers,
    Opaque,
}

impl Message {
    /// What field `field` of this message is, by its number in `onnx.proto`.
    fn content(self, field: u64) -> Content {
        use Message::*;
        Content::Message(match (self, field) {
            (Model, 7) | (Attribute, 6 | 11) => Graph,
            (Model, 8 | 14) | (Graph, 16) | (Tensor, 13 | 16) | (Shape, 1) => Plain,
            (Graph, 1) => Node,
            (Graph, 5) | (Attribute, 5 | 10) => Tensor,
            (Graph, 11..=13) => ValueInfo,
            (Node, 5) => Attribute,
            (ValueInfo, 2) | (Attribute, 14 | 15) | (TensorType, 1) => Type,
            // A sequence's or an optional's message has a type where a tensor's has a number.
            (Type, 1 | 4 | 9) => TensorType,
            (TensorType, 2) => Shape,
            (Attribute, 8) | (Tensor, 1 | 5 | 7 | 11) => return Content::Numbers,
            _ => return Content::Opaque,
        })
    }
}

/// Checks a whole model file.
///
/// # Errors
/// Where the first thing lies that is not well formed, in bytes from the beginning, and what it is.
pub fn check(bytes: &[u8]) -> Result<(), String> {
    walk(&mut Cursor { bytes, at: 0, end: bytes.len() }, Message::Model, MOST_DEPTH)
}

/// A part of the file that is being read.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

fn walk(cursor: &mut Cursor, message: Message, depth: usize) -> Result<(), String> {
    if depth == 0 {
        return Err(format!("messages lie more than {MOST_DEPTH} deep at byte {}", cursor.at));
    }
    while cursor.at < cursor.end {
        let tag = cursor.number()?;
        match tag & 7 {
            0 => {
                cursor.number()?;
            }
            1 => cursor.skip(8)?,
            5 => cursor.skip(4)?,
            2 => {
                let length = cursor.number()?;
                let start = cursor.at;
                cursor.skip(length)?;
                let mut inner = Cursor { bytes: cursor.bytes, at: start, end: cursor.at };
                match message.content(tag >> 3) {
                    Content::Message(inside) => walk(&mut inner, inside, depth - 1)?,
                    Content::Numbers => {
                        while inner.at < inner.end {
                            inner.number()?;
                        }
                    }
                    Content::Opaque => {}
                }
            }
            _ => return Err(format!("a field of an unknown kind ends at byte {}", cursor.at)),
        }
    }
    Ok(())
}

impl Cursor<'_> {
    /// A number of variable length, seven bits a byte.
    fn number(&mut self) -> Result<u64, String> {
        let mut value = 0u64;
        for i in 0..10 {
            let Some(&byte) = self.bytes[..self.end].get(self.at) else {
                return Err(format!("it ends in the middle, at byte {}", self.at));
            };
            self.at += 1;
            value |= u64::from(byte & 127) << (7 * i);
            if byte < 128 {
                // The tenth byte has room for one bit.
                return if i == 9 && byte > 1 { Err(self.too_large()) } else { Ok(value) };
            }
        }
        Err(self.too_large())
    }

    fn too_large(&self) -> String {
        format!("a number of more than 64 bits ends at byte {}", self.at)
    }

    fn skip(&mut self, length: u64) -> Result<(), String> {
        let left = self.end - self.at;
        match usize::try_from(length) {
            Ok(length) if length <= left => {
                self.at += length;
                Ok(())
            }
            _ => Err(format!("{length} bytes are announced at byte {}, and {left} are left", self.at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn sound_models_pass_and_cut_ones_do_not() {
        let model = samples::dense();
        assert_eq!(check(&model), Ok(()));
        // The graph begins there, comes last, and reaches to the end.
        for cut in 7..model.len() {
            assert!(check(&model[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn what_would_be_read_without_end_is_refused() {
        let graph = |body: &[u8]| [&[7 << 3 | 2, body.len() as u8], body].concat();
        for (bytes, what) in [
            (vec![0xFF; 100], "a tag without end"),
            ([&[8], &[0xFF; 9][..], &[2]].concat(), "a tenth byte that is too large"),
            (graph(&[10, 100]), "a length that leaves its message"),
            (graph(&[42, 13, 10, 11, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255]), "packed numbers"),
            (vec![11, 0], "groups are not used"),
        ] {
            assert!(check(&bytes).is_err(), "{what}");
        }
        assert_eq!(check(&graph(&[])), Ok(()));
    }

    #[test]
    fn graphs_without_end_are_refused() {
        let wrap = |field: u8, body: Vec<u8>| {
            let length = [(body.len() & 127) as u8 | 128, (body.len() >> 7 & 127) as u8];
            [&[field << 3 | 2][..], &length, &body].concat()
        };
        let mut graph = Vec::new();
        for _ in 0..40 {
            graph = wrap(1, wrap(5, wrap(6, graph)));
        }
        assert!(check(&wrap(7, graph)).unwrap_err().contains("deep"));
    }
}
