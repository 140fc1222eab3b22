// The page of the API: our document, our daemon, nothing from elsewhere.
SwaggerUIBundle({
  dom_id: "#docs",
  url: "/openapi.json",
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  filter: true,
  tryItOutEnabled: true,
  // The token stays in this tab.
  persistAuthorization: false,
  validatorUrl: null,
});
