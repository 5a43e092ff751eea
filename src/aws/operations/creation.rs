//! Creates resources. A client that gets no response repeats its request with the same identifier. zonal stores this
//! identifier in the data of the resource, so a repeated request does not create a second resource.

use super::{Parameters, edits};
use crate::{
    aws::codec::server::ServiceError,
    manifest::{AwsData, Id, Resource, collection::Edit},
};
use std::sync::Arc;

/// The identifier of a request that creates a resource.
#[derive(Clone, Copy)]
pub(super) struct RequestId<'p> {
    /// The parameter of the request.
    parameter: &'static str,
    /// The member of the resource's data.
    member: &'static str,
    text: &'p str,
}

/// A resource, with the change that creates it.
pub(super) struct Created<R> {
    /// The identifier of the resource.
    pub id: Id,
    /// The resource.
    pub resource: Arc<R>,
    /// The change of the manifest. Empty, if an earlier request created the resource.
    pub edits: Vec<Edit>,
}

impl<'p> RequestId<'p> {
    /// The identifier of a request to Route 53 Resolver.
    pub fn creator(parameters: Parameters<'p>) -> RequestId<'p> {
        RequestId::read(parameters, "CreatorRequestId", "creator_request_id")
    }

    /// The identifier of a request to Route 53.
    pub fn caller_reference(parameters: Parameters<'p>) -> RequestId<'p> {
        RequestId::read(parameters, "CallerReference", "caller_reference")
    }

    /// The identifier of a request to Route 53 Profiles.
    pub fn client_token(parameters: Parameters<'p>) -> RequestId<'p> {
        RequestId::read(parameters, "ClientToken", "client_token")
    }

    fn read(parameters: Parameters<'p>, parameter: &'static str, member: &'static str) -> RequestId<'p> {
        RequestId { parameter, member, text: parameters.text(parameter) }
    }

    /// Whether a request with this identifier created the resource with this data.
    pub fn is_in(self, aws: &AwsData) -> bool {
        aws.text(self.member) == Some(self.text)
    }

    /// Stores the identifier in the data of a new resource.
    pub fn store(self, aws: &mut AwsData) {
        aws.set(self.member, self.text);
    }

    /// Returns the resource that an earlier request with this identifier created, or else a new one. `make` creates the new one
    /// and stores the identifier. `own` has the caller's resources, and `data` returns the data of a resource.
    ///
    /// # Errors
    ///
    /// The earlier request had other parameters: `is_same` is false for its resource. `refuse` makes the error from a message.
    pub fn create_once<'a, R: 'a>(
        self,
        mut own: impl Iterator<Item = (&'a Id, &'a Arc<R>)>,
        data: fn(&R) -> &AwsData,
        is_same: impl Fn(&R) -> bool,
        refuse: impl FnOnce(String) -> ServiceError,
        make: impl FnOnce() -> (Id, R),
    ) -> Result<Created<R>, ServiceError>
    where
        Arc<R>: Into<Resource>,
    {
        match own.find(|(_, resource)| self.is_in(data(resource))) {
            Some((id, resource)) if is_same(resource) => {
                Ok(Created { id: id.clone(), resource: resource.clone(), edits: Vec::new() })
            }
            Some((id, _)) => {
                let message = format!(
                    "{}: an earlier request with this value and other parameters created '{id}'; use a new value",
                    self.parameter
                );
                Err(refuse(message))
            }
            None => {
                let (id, resource) = make();
                let resource = Arc::new(resource);
                let edits = vec![edits::put(&id, resource.clone().into())];
                Ok(Created { id, resource, edits })
            }
        }
    }
}
