//! What `deploy` has to offer is true: each file of it is used here by the program that it is for, as far as that can run here.

mod forwarders;
