"""How the parts are put together: the study file and the flow."""
