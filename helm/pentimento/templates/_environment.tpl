{{/* Settings of every process, as docs/settings.md has them; the ConfigMap's data. */}}
{{- define "pentimento.settings" -}}
{{- $kafka := include "pentimento.kafka" . | fromYaml -}}
PENTIMENTO_DATA_DIR: /var/lib/pentimento
PENTIMENTO_KAFKA__BOOTSTRAP_SERVERS: {{ include "pentimento.kafka.bootstrap" . | quote }}
PENTIMENTO_KAFKA__SECURITY_PROTOCOL: {{ $kafka.protocol | quote }}
{{- if hasPrefix "SASL" $kafka.protocol }}
PENTIMENTO_KAFKA__SASL_MECHANISM: {{ $kafka.mechanism | quote }}
PENTIMENTO_KAFKA__USERNAME: {{ $kafka.username | quote }}
{{- end }}
{{- if $kafka.caSecret }}
PENTIMENTO_KAFKA__CA_FILE: /etc/pentimento/kafka/ca.crt
{{- end }}
{{- if $kafka.clientSecret }}
PENTIMENTO_KAFKA__CERTIFICATE_FILE: /etc/pentimento/kafka-client/tls.crt
PENTIMENTO_KAFKA__KEY_FILE: /etc/pentimento/kafka-client/tls.key
{{- end }}
PENTIMENTO_OBJECTS__URL: {{ .Values.objects.url | quote }}
PENTIMENTO_OBJECTS__REGION: {{ .Values.objects.region | quote }}
{{- with .Values.objects.endpoint }}
PENTIMENTO_OBJECTS__ENDPOINT: {{ . | quote }}
{{- end }}
PENTIMENTO_OBJECTS__ALLOW_HTTP: {{ .Values.objects.allowHttp | quote }}
PENTIMENTO_MODELS__URL: {{ include "pentimento.models.url" . | quote }}
PENTIMENTO_MODELS__BACKEND: {{ ternary "torchserve" .Values.modelServer.backend .Values.modelServer.enabled | quote }}
PENTIMENTO_EMBEDDER__ENABLED: {{ .Values.modelServer.embedder | quote }}
{{- if .Values.policy }}
PENTIMENTO_POLICY__FILE: /etc/pentimento/policy/policy.json
{{- end }}
PENTIMENTO_WEB__HOST: "0.0.0.0"
PENTIMENTO_WEB__PORT: {{ .Values.api.port | quote }}
PENTIMENTO_TELEMETRY__LOG_LEVEL: {{ .Values.telemetry.logLevel | quote }}
PENTIMENTO_TELEMETRY__HOST: "0.0.0.0"
PENTIMENTO_TELEMETRY__PORT: {{ .Values.telemetry.port | quote }}
{{- with .Values.telemetry.otlpEndpoint }}
PENTIMENTO_TELEMETRY__OTLP_ENDPOINT: {{ . | quote }}
{{- end }}
{{- range $name, $value := .Values.settings }}
{{ $name }}: {{ $value | quote }}
{{- end }}
{{- end -}}

{{/* (dict "root" $ "secrets" (list "kafka" "postgres" "objects" "models" "web")): what does not stand in the ConfigMap. */}}
{{- define "pentimento.secrets" -}}
{{- $root := .root -}}
{{- $kafka := include "pentimento.kafka" $root | fromYaml -}}
{{- $postgres := include "pentimento.postgres" $root | fromYaml -}}
- name: HOME
  value: /tmp
{{- if and (has "kafka" .secrets) (hasPrefix "SASL" $kafka.protocol) }}
{{ include "pentimento.secret" (list "PENTIMENTO_KAFKA__PASSWORD" $kafka.secret $kafka.key) }}
{{- end }}
{{- if has "postgres" .secrets }}
{{ include "pentimento.secret" (list "PENTIMENTO_POSTGRES__DSN" $postgres.secret $postgres.key) }}
{{- end }}
{{- with $root.Values.objects }}
{{- if and (has "objects" $.secrets) .existingSecret }}
{{ include "pentimento.secret" (list "PENTIMENTO_OBJECTS__ACCESS_KEY_ID" .existingSecret .accessKeyIdKey) }}
{{ include "pentimento.secret" (list "PENTIMENTO_OBJECTS__SECRET_ACCESS_KEY" .existingSecret .secretAccessKeyKey) }}
{{- end }}
{{- end }}
{{- with $root.Values.modelServer }}
{{- if and (has "models" $.secrets) .existingSecret }}
{{ include "pentimento.secret" (list "PENTIMENTO_MODELS__TOKEN" .existingSecret .tokenKey) }}
{{- end }}
{{- end }}
{{- if has "web" .secrets }}
{{ include "pentimento.secret" (list "PENTIMENTO_WEB__TOKEN" $root.Values.api.existingSecret $root.Values.api.tokenKey) }}
{{- with $root.Values.webhooks }}
{{- if .existingSecret }}
{{ include "pentimento.secret" (list "PENTIMENTO_WEBHOOKS__KEYS" .existingSecret .keysKey) }}
{{- end }}
{{- end }}
{{- with $root.Values.login }}
{{- if .existingSecret }}
{{ include "pentimento.secret" (list "PENTIMENTO_LOGIN__CLIENT_SECRET" .existingSecret .clientSecretKey) }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* (list variable secret key) */}}
{{- define "pentimento.secret" -}}
- name: {{ index . 0 }}
  valueFrom:
    secretKeyRef:
      name: {{ index . 1 | quote }}
      key: {{ index . 2 | quote }}
{{- end -}}
