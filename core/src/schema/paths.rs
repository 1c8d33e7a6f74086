//! Contracts by the paths of fields: what has to be there, of which type, how long.
//!
//! A path leads through objects. If there is an array of objects on its way, it leads through each of them.

use super::shape::{Choices, Count, Node, ShapeError, Types};
use crate::route::path::FieldPath;

/// Demands of one contract.
pub const DEMANDS_MAX: usize = 256;

/// What a field has to be.
#[derive(Clone, Debug, PartialEq)]
pub enum Demand {
    /// There.
    Required,
    /// Of one of these types.
    Types(Types),
    /// A text of so many characters, if it is a text.
    Chars(Count),
    /// One of these values.
    OneOf(Choices),
}

/// Demands that cannot be met or checked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DemandError {
    /// A name that is too long, or too many of them.
    #[error("`{path}`: {source}")]
    Shape {
        /// The field.
        path: FieldPath,
        /// What is wrong.
        source: ShapeError,
    },
    /// Two demands of one kind.
    #[error("`{0}` is listed twice")]
    Twice(FieldPath),
    /// Types that exclude each other.
    #[error("`{0}`: its types, or those of a field around it, exclude each other")]
    NoType(FieldPath),
}

/// The shape of events for which all demands hold.
///
/// # Errors
/// Two demands contradict each other.
pub fn shape(demands: &[(FieldPath, Demand)]) -> Result<Node, DemandError> {
    let mut root = Node::default();
    for (path, demand) in demands {
        let shape_error = |source| DemandError::Shape {
            path: path.clone(),
            source,
        };
        let is_required = *demand == Demand::Required;
        let mut node = &mut root;
        let mut names = path.names().peekable();
        while let Some(name) = names.next() {
            let member = node.property(name).map_err(shape_error)?;
            if names.peek().is_some() {
                member.reaches_into_arrays = true;
                if is_required {
                    member.types = member.types.and(Types::OBJECT | Types::ARRAY);
                }
            } else {
                demand.add(member).ok_or(DemandError::Twice(path.clone()))?;
            }
            if member.types == Types::NONE {
                return Err(DemandError::NoType(path.clone()));
            }
            if is_required {
                node.require(name).map_err(shape_error)?;
            }
            node = node.property(name).map_err(shape_error)?;
        }
    }
    Ok(root)
}

impl Demand {
    /// Adds it to a node, unless one of its kind is there.
    fn add(&self, node: &mut Node) -> Option<()> {
        match self {
            Demand::Required => Some(()),
            Demand::Types(types) => {
                node.types = node.types.and(*types);
                Some(())
            }
            Demand::Chars(count) => {
                let is_new = node.chars == Count::ANY;
                node.chars = *count;
                is_new.then_some(())
            }
            Demand::OneOf(choices) => node.one_of.replace(choices.clone()).is_none().then_some(()),
        }
    }
}
