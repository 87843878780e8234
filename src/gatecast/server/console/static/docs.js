// Shows the API's own description.
SwaggerUIBundle({ url: "/openapi.json", dom_id: "#documentation", deepLinking: true, tryItOutEnabled: false, validatorUrl: null });
