{{/* Names and labels. */}}
{{- define "pentimento.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "pentimento.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "pentimento.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "pentimento.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* (dict "root" $ "component" "api"): what selects pods. Never more: a selector cannot change. */}}
{{- define "pentimento.selector" -}}
app.kubernetes.io/name: {{ include "pentimento.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "pentimento.labels" -}}
{{ include "pentimento.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: pentimento
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* (dict "root" $ "name" "services" "gpu" false) */}}
{{- define "pentimento.image" -}}
{{- $image := .root.Values.image -}}
{{- $registry := ternary (printf "%s/" $image.registry) "" (ne $image.registry "") -}}
{{- $tag := default .root.Chart.AppVersion $image.tag -}}
{{- printf "%s%s:%s%s" $registry (index $image.repositories .name) $tag (ternary "-cuda" "" (default false .gpu)) -}}
{{- end -}}

{{- define "pentimento.serviceAccount" -}}
{{- default (ternary (include "pentimento.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name -}}
{{- end -}}

{{/* Topics and groups, from services/core/topology.py. */}}
{{- define "pentimento.topology" -}}
{{- .Files.Get "files/topology.yaml" -}}
{{- end -}}

{{/* (dict "root" $ "topic" a topic of the topology) */}}
{{- define "pentimento.partitions" -}}
{{- if gt (int .topic.partitions) 1 }}{{ .root.Values.kafka.partitions }}{{ else }}{{ .topic.partitions }}{{ end -}}
{{- end -}}

{{/* Where things are: what Strimzi and CloudNativePG make, or what values say. */}}
{{- define "pentimento.kafka.cluster" -}}
{{- default (printf "%s-kafka" (include "pentimento.fullname" .)) .Values.strimzi.existingCluster -}}
{{- end -}}

{{- define "pentimento.kafka.bootstrap" -}}
{{- if .Values.strimzi.enabled -}}
{{- printf "%s-kafka-bootstrap.%s.svc:9093" (include "pentimento.kafka.cluster" .) .Release.Namespace -}}
{{- else -}}
{{- .Values.kafka.bootstrapServers -}}
{{- end -}}
{{- end -}}

{{/* As YAML: protocol, mechanism, username, secret, key, caSecret, caKey, clientSecret, certificateKey, keyKey. */}}
{{- define "pentimento.kafka" -}}
{{- if .Values.strimzi.enabled -}}
protocol: SASL_SSL
mechanism: SCRAM-SHA-512
username: {{ include "pentimento.fullname" . }}
secret: {{ include "pentimento.fullname" . }}
key: password
caSecret: {{ include "pentimento.kafka.cluster" . }}-cluster-ca-cert
caKey: ca.crt
clientSecret: ""
{{- else -}}
{{- with .Values.kafka -}}
protocol: {{ .securityProtocol }}
mechanism: {{ .saslMechanism }}
username: {{ .username | quote }}
secret: {{ .existingSecret | quote }}
key: {{ .passwordKey | quote }}
caSecret: {{ .caSecret | quote }}
caKey: {{ .caKey | quote }}
clientSecret: {{ .clientSecret | quote }}
certificateKey: {{ .clientCertificateKey | quote }}
keyKey: {{ .clientKeyKey | quote }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "pentimento.postgres" -}}
{{- if .Values.cnpg.enabled -}}
secret: {{ include "pentimento.fullname" . }}-postgres-app
key: uri
caSecret: ""
caKey: ""
{{- else -}}
secret: {{ .Values.postgres.existingSecret | quote }}
key: {{ .Values.postgres.dsnKey | quote }}
caSecret: {{ .Values.postgres.caSecret | quote }}
caKey: {{ .Values.postgres.caKey | quote }}
{{- end -}}
{{- end -}}

{{- define "pentimento.models.url" -}}
{{- if .Values.modelServer.enabled -}}
{{- printf "http://%s-models:%v" (include "pentimento.fullname" .) .Values.modelServer.port -}}
{{- else -}}
{{- .Values.modelServer.externalUrl -}}
{{- end -}}
{{- end -}}

{{/* From where metrics may be read, as peers of a policy. */}}
{{- define "pentimento.metricsFrom" -}}
{{- toYaml (default (list (dict "namespaceSelector" (dict))) .Values.networkPolicy.metricsFrom) -}}
{{- end -}}
